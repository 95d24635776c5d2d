//! aprender's int4: flat blocks of 32 in 18 bytes. `y = d * (q - 8)`, the last block may be partial.
//!
//! Block: `d` f16, then 16 bytes; byte `j` holds element `2j` in its low nibble and `2j + 1` in its high one
//! (interleaved, unlike GGML). Blocks run over the row-major data and ignore rows. `d = max |x| / 7`, 1 for
//! a block of zeros; elements round half away from zero, divided by the unrounded `d`.
//! Decoding is that of aprender's inference; its exporter alone drops scales below the smallest normal half.

use super::rows::{check_rows, half_overflow};
use super::{Codec, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct AprQ4;

const LEN: usize = 32;
const BYTES: usize = 18;

impl Codec for AprQ4 {
    fn dtype(&self) -> DType {
        DType::AprQ4
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert!(
            bytes.len() == out.len().div_ceil(LEN) * BYTES,
            "{} bytes of APR_Q4 do not hold {} elements",
            bytes.len(),
            out.len()
        );
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.chunks_mut(LEN)) {
            decode_block(b, 0, y);
        }
    }

    fn decode_range(&self, bytes: &[u8], start: usize, out: &mut [f32]) {
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let from = at % LEN;
            let (now, later) = rest.split_at_mut(rest.len().min(LEN - from));
            let block = bytes[at / LEN * BYTES..].first_chunk::<BYTES>().expect("the range lies inside");
            decode_block(block, from, now);
            (at, rest) = (at + now.len(), later);
        }
    }

    fn encode_rows(
        &self,
        values: &[f32],
        row_len: usize,
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check_rows(self.dtype(), values, row_len, importance)?;
        for (n, x) in values.chunks(LEN).enumerate() {
            let largest = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let d = if largest == 0.0 { 1.0 } else { largest / 7.0 };
            let scale = half::f16::from_f32(d);
            if scale.is_infinite() {
                let at = x.iter().position(|v| v.abs() == largest).unwrap_or(0);
                return Err(half_overflow(self.dtype(), n * LEN + at, x[at]));
            }
            out.extend(scale.to_le_bytes());
            // A denormal `d` underflows to 0 and `0 / 0` to NaN, which saturates to 0, as in aprender.
            let quantum = |v: &f32| ((v / d).round().clamp(-8.0, 7.0) as i8 + 8) as u8;
            let byte = |j: usize| {
                let [low, high] = [2 * j, 2 * j + 1].map(|i| x.get(i).map_or(0, quantum));
                low | high << 4
            };
            out.extend((0..LEN / 2).map(byte));
        }
        Ok(())
    }
}

/// Elements `from .. from + y.len()` of one block.
fn decode_block(b: &[u8; BYTES], from: usize, y: &mut [f32]) {
    let d = half_at(b, 0);
    for (i, y) in (from..).zip(y) {
        let nibble = b[2 + i / 2] >> (i % 2 * 4) & 0x0f;
        *y = f32::from(nibble as i8 - 8) * d;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_interleaved_and_a_partial_block_is_zero_filled() {
        let mut out = Vec::new();
        AprQ4.encode(&[7.0, -7.0, 3.5, 0.0, -0.4], &mut out).unwrap();
        // d = 1; 3.5 rounds away from zero to 4.
        let mut expected = vec![0x00, 0x3c, 0x1f, 0x8c, 0x08];
        expected.resize(18, 0);
        assert_eq!(out, expected);
        let mut back = [0.0; 5];
        AprQ4.decode(&out, &mut back);
        assert_eq!(back, [7.0, -7.0, 4.0, 0.0, 0.0]);
    }

    #[test]
    fn any_range_equals_its_part_of_the_whole() {
        let values: Vec<f32> = (0..75).map(|i| ((i * 37 % 64) as f32 - 31.0) / 16.0).collect();
        let mut bytes = Vec::new();
        AprQ4.encode(&values, &mut bytes).unwrap();
        let mut whole = vec![0.0; 75];
        AprQ4.decode(&bytes, &mut whole);
        for (start, len) in [(0, 75), (0, 25), (25, 25), (50, 25), (31, 2), (74, 1)] {
            let mut part = vec![0.0; len];
            AprQ4.decode_range(&bytes, start, &mut part);
            assert_eq!(part, whole[start..start + len], "{start} {len}");
        }
    }
}
