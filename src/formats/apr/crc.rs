//! CRC-32 (IEEE 802.3, reflected 0xEDB88320), sixteen bytes a step: a footer covers the whole model.

/// A running CRC-32.
#[derive(Clone)]
pub(super) struct Crc32(u32);

impl Crc32 {
    pub(super) fn new() -> Self {
        Crc32(!0)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (blocks, tail) = bytes.as_chunks::<16>();
        let mut crc = self.0;
        for block in blocks {
            let mut next = 0;
            for (i, byte) in block.iter().enumerate() {
                // The first four bytes meet the running value; byte `i` has 15 - i bytes behind it.
                let byte = if i < 4 { byte ^ crc.to_le_bytes()[i] } else { *byte };
                next ^= TABLES[15 - i][usize::from(byte)];
            }
            crc = next;
        }
        for byte in tail {
            crc = crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)];
        }
        self.0 = crc;
    }

    pub(super) fn finish(&self) -> u32 {
        !self.0
    }
}

/// The CRC-32 of `parts`, one after the other.
pub(super) fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc32::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.finish()
}

/// `TABLES[k][b]`: what byte `b` adds to the CRC when `k` bytes follow it.
static TABLES: [[u32; 256]; 16] = tables();

const fn tables() -> [[u32; 256]; 16] {
    let mut tables = [[0u32; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 16 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_holds_however_the_bytes_are_cut() {
        // The catalogue's check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(&[b"123456789"]), 0xcbf4_3926);
        let bytes: Vec<u8> = (0..200u32).map(|i| (i * 31 % 251) as u8).collect();
        let whole = crc32(&[&bytes]);
        for cut in 0..=bytes.len() {
            assert_eq!(crc32(&[&bytes[..cut], &bytes[cut..]]), whole);
        }
        assert_eq!(crc32(&[]), 0);
    }
}
