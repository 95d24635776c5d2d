//! Damage to sound files, the same for the same number: what the property tests and the stable fuzzer feed a parser.

/// A source of damage, xorshift64*.
pub struct Mutator(u64);

impl Mutator {
    /// Equal seeds give equal damage.
    pub fn new(seed: u64) -> Mutator {
        // Zero would stay zero.
        Mutator(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// A copy of one of `sound`, damaged in one place or a few; the checksums of an APR file mostly hold again.
    pub fn damage(&mut self, parser: &str, sound: &[Vec<u8>]) -> Vec<u8> {
        let mut data = self.pick(sound).clone();
        self.step(&mut data, sound);
        while self.below(2) == 0 {
            self.step(&mut data, sound);
        }
        data.truncate(LONGEST);
        if parser == "apr" && self.below(8) > 0 {
            seal_apr(&mut data);
        }
        data
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn step(&mut self, data: &mut Vec<u8>, sound: &[Vec<u8>]) {
        if data.is_empty() {
            data.push(self.next() as u8);
        }
        let at = self.below(data.len());
        let end = (at + 1 + self.below(16)).min(data.len());
        match self.below(12) {
            0 | 1 => data[at] ^= 1 << self.below(8),
            2 => data[at] = self.next() as u8,
            3 => self.edge(data, at, 8),
            4 => self.edge(data, at, 4),
            5 => self.edge(data, at, 2),
            6 => self.number(data, at),
            7 => data.truncate(at),
            8 => drop(data.drain(at..end)),
            9 => {
                let piece = data[at..end].to_vec();
                let times = 1 + self.below(64);
                data.splice(at..at, piece.repeat(times));
            }
            10 => {
                let other = self.pick(sound);
                let from = self.below(other.len());
                data.truncate(at);
                data.extend(&other[from..]);
            }
            _ => {
                let word = *self.pick(WORDS);
                data.splice(at..at, word.bytes());
            }
        }
    }

    /// What hurts most in a count, a length or an offset, over the `width` bytes at `at`.
    fn edge(&mut self, data: &mut [u8], at: usize, width: usize) {
        let value = match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1 << self.below(64)) - 1,
            4 => data.len() as u64,
            _ => self.next() % 300,
        };
        let end = (at + width).min(data.len());
        data[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
    }

    /// Another number in the place of the first one written out after `at`.
    fn number(&mut self, data: &mut Vec<u8>, at: usize) {
        let Some(start) = data[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else { return };
        let len = data[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        let number = *self.pick(NUMBERS);
        data.splice(start..start + len, number.bytes());
    }
}

/// Makes the CRCs of an APR file hold again, so that damage reaches the checks behind them.
pub fn seal_apr(bytes: &mut [u8]) {
    if bytes.len() < 64 {
        return;
    }
    let header = crc32(bytes[..40].iter().chain(&bytes[44..64]));
    bytes[40..44].copy_from_slice(&header.to_le_bytes());
    let end = bytes.len() - 4;
    if end >= 64 {
        let footer = crc32(bytes[..end].iter());
        bytes[end..].copy_from_slice(&footer.to_le_bytes());
    }
}

fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let fold = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320))
    };
    !bytes.fold(!0u32, fold)
}

/// Files of attack need no length.
const LONGEST: usize = 1 << 16;

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1152921504606846976",
    "1e999",
    "0.5",
    "-0.0",
    "1e-400",
    "NaN",
];

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "&a ",
    "*a",
    "- ",
    "\n",
    "  ",
    "\u{feff}",
    "\\u0000",
    "\\ud800",
    "<<: ",
    "!!binary ",
    "---\n",
    "x-a: ",
    "\"shape\":",
    "\"id\":",
    ".counts",
    ".in_sum2",
    "general.alignment",
    "split.count",
];
