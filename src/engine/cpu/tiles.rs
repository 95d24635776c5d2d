//! Row tiles as the integer kernels read them: steps of 16 or 32 elements of sixteen rows, each an unsigned number of up
//! to 8 bits, less an offset, times a scale, plus a minimum.
//!
//! The bytes are those of [`crate::quant::tiled`].

use super::lanes::{Lanes, ask_for};

/// The block geometry and the arithmetic of an encoding in tiles.
pub(super) trait TileEncoding {
    /// Vectors of quants (4 bytes of each row) per block.
    const QUANTS: usize;
    /// Vectors of further bits of the quants per block.
    const HIGH: usize;
    /// Bytes of scales per row of a block.
    const SCALES: usize;
    /// f16 numbers per row of a block: scale, minimum.
    const HALVES: usize;
    /// Steps in a block; each has its own scale.
    const STEPS: usize;
    /// How a step is computed.
    type Step: StepKind;
    /// Where elements have an offset, it is `128 >> OFFSET`; in half steps `32 >> OFFSET`.
    const OFFSET: i32 = 0;

    /// Elements `4 g .. 4 g + 4` of step `s`.
    fn group<L: Lanes>(block: &Block<'_>, s: usize, g: usize) -> L::Bytes;
    /// The scale of step `s`.
    fn scale<L: Lanes>(block: &Block<'_>, s: usize) -> L;
    /// The minimum of step `s`.
    fn min<L: Lanes>(_block: &Block<'_>, _s: usize) -> L {
        L::splat(0.0)
    }
}

/// How a step is computed; few kinds serve all encodings, so that few kernels are compiled.
pub(super) trait StepKind {
    /// Groups of four elements: 4 or 8.
    const GROUPS: usize;
    /// Whether something is subtracted from every element.
    const OFFSET: bool;
    /// Whether there is a minimum to add.
    const MIN: bool;
    /// Whether elements exceed 128.
    const WIDE: bool;
}

/// 32 elements less an offset.
pub(super) struct Signed;
/// 32 bytes less 128.
pub(super) struct Wide;
/// 32 elements and a minimum.
pub(super) struct Affine;
/// 16 elements less an offset.
pub(super) struct HalfSigned;
/// 16 elements and a minimum.
pub(super) struct HalfAffine;

impl StepKind for Signed {
    const GROUPS: usize = 8;
    const OFFSET: bool = true;
    const MIN: bool = false;
    const WIDE: bool = false;
}

impl StepKind for Wide {
    const GROUPS: usize = 8;
    const OFFSET: bool = true;
    const MIN: bool = false;
    const WIDE: bool = true;
}

impl StepKind for Affine {
    const GROUPS: usize = 8;
    const OFFSET: bool = false;
    const MIN: bool = true;
    const WIDE: bool = false;
}

impl StepKind for HalfSigned {
    const GROUPS: usize = 4;
    const OFFSET: bool = true;
    const MIN: bool = false;
    const WIDE: bool = false;
}

impl StepKind for HalfAffine {
    const GROUPS: usize = 4;
    const OFFSET: bool = false;
    const MIN: bool = true;
    const WIDE: bool = false;
}

/// One block of each of sixteen rows.
pub(super) struct Block<'a> {
    quants: &'a [[u8; 64]],
    high: &'a [[u8; 64]],
    scales: &'a [[u8; 16]],
    halves: [&'a [u8; 32]; 2],
    /// Scale of the whole tensor, where that is all.
    factor: f32,
}

/// Sixteen rows, `[columns]` blocks of each, the fields of a block one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    bytes: &'a [u8],
    factor: f32,
}

const NO_HALVES: &[u8; 32] = &[0; 32];

impl<'a> Tile<'a> {
    /// `factor` is the scale of the whole tensor, where blocks have none.
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], factor: f32) -> Self {
        Tile { bytes, factor }
    }

    /// # Panics
    /// Where there are fewer columns.
    #[inline(always)]
    pub(super) fn block<E: TileEncoding>(&self, column: usize) -> Block<'a> {
        let len = 64 * (E::QUANTS + E::HIGH) + 16 * E::SCALES + 32 * E::HALVES;
        let block = &self.bytes[column * len..][..len];
        let (halves, rest) = block.split_at(32 * E::HALVES);
        let (scales, rest) = rest.split_at(16 * E::SCALES);
        let (high, quants) = rest.split_at(64 * E::HIGH);
        let halves = halves.as_chunks().0;
        Block {
            quants: quants.as_chunks().0,
            high: high.as_chunks().0,
            scales: scales.as_chunks().0,
            halves: [
                if E::HALVES > 0 { &halves[0] } else { NO_HALVES },
                if E::HALVES > 1 { &halves[1] } else { NO_HALVES },
            ],
            factor: self.factor,
        }
    }
}

impl Block<'_> {
    /// Asks for the further bits, which are read in turns with the quants: the processor foresees one stream of lines,
    /// not two.
    #[inline(always)]
    pub(super) fn prefetch_high<L: Lanes>(&self) {
        ask_for::<L>(self.high.as_flattened());
    }

    #[inline(always)]
    fn low<L: Lanes>(&self, i: usize) -> L::Bytes {
        L::field::<0x0f>(L::bytes(&self.quants[i]), 0)
    }

    /// The low or the high nibbles of vector `i`.
    #[inline(always)]
    fn nibbles<L: Lanes>(&self, i: usize, high: usize) -> L::Bytes {
        if high == 0 { self.low::<L>(i) } else { L::field::<0x0f>(L::bytes(&self.quants[i]), 4) }
    }

    #[inline(always)]
    fn d<L: Lanes>(&self) -> L {
        L::from_f16(self.halves[0])
    }

    #[inline(always)]
    fn m<L: Lanes>(&self) -> L {
        L::from_f16(self.halves[1])
    }
}

#[allow(non_camel_case_types)] // the field's own spelling
pub(super) struct Q4_0;
#[allow(non_camel_case_types)]
pub(super) struct Q4_1;
#[allow(non_camel_case_types)]
pub(super) struct Q5_0;
#[allow(non_camel_case_types)]
pub(super) struct Q5_1;
#[allow(non_camel_case_types)]
pub(super) struct Q8_0;
/// Signed bytes and one scale for the tensor.
pub(super) struct Flat8;
pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

impl TileEncoding for Q4_0 {
    const QUANTS: usize = 4;
    const HIGH: usize = 0;
    const SCALES: usize = 0;
    const HALVES: usize = 1;
    const STEPS: usize = 1;
    type Step = Signed;
    const OFFSET: i32 = 4;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, _s: usize, g: usize) -> L::Bytes {
        block.nibbles::<L>(g % 4, g / 4)
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        block.d()
    }
}

impl TileEncoding for Q4_1 {
    const QUANTS: usize = 4;
    const HIGH: usize = 0;
    const SCALES: usize = 0;
    const HALVES: usize = 2;
    const STEPS: usize = 1;
    type Step = Affine;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, _s: usize, g: usize) -> L::Bytes {
        block.nibbles::<L>(g % 4, g / 4)
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        block.d()
    }

    #[inline(always)]
    fn min<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        block.m()
    }
}

/// Nibbles of group `g` with their fifth bits, which stand in bit `g` of the bytes of one vector.
#[inline(always)]
fn five<L: Lanes>(block: &Block<'_>, g: usize) -> L::Bytes {
    let fifth = L::field::<0x10>(L::bytes(&block.high[0]), g as i32 - 4);
    L::or(block.nibbles::<L>(g % 4, g / 4), fifth)
}

impl TileEncoding for Q5_0 {
    const QUANTS: usize = 4;
    const HIGH: usize = 1;
    const SCALES: usize = 0;
    const HALVES: usize = 1;
    const STEPS: usize = 1;
    type Step = Signed;
    const OFFSET: i32 = 3;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, _s: usize, g: usize) -> L::Bytes {
        five::<L>(block, g)
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        block.d()
    }
}

impl TileEncoding for Q5_1 {
    const QUANTS: usize = 4;
    const HIGH: usize = 1;
    const SCALES: usize = 0;
    const HALVES: usize = 2;
    const STEPS: usize = 1;
    type Step = Affine;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, _s: usize, g: usize) -> L::Bytes {
        five::<L>(block, g)
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        block.d()
    }

    #[inline(always)]
    fn min<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        block.m()
    }
}

impl TileEncoding for Q8_0 {
    const QUANTS: usize = 8;
    const HIGH: usize = 0;
    const SCALES: usize = 0;
    const HALVES: usize = 1;
    const STEPS: usize = 1;
    type Step = Wide;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, _s: usize, g: usize) -> L::Bytes {
        L::raised(L::bytes(&block.quants[g]))
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        block.d()
    }
}

impl TileEncoding for Flat8 {
    const QUANTS: usize = 8;
    const HIGH: usize = 0;
    const SCALES: usize = 0;
    const HALVES: usize = 0;
    const STEPS: usize = 1;
    type Step = Wide;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, _s: usize, g: usize) -> L::Bytes {
        L::raised(L::bytes(&block.quants[g]))
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, _s: usize) -> L {
        L::splat(block.factor)
    }
}

impl TileEncoding for Q2K {
    const QUANTS: usize = 16;
    const HIGH: usize = 0;
    const SCALES: usize = 16;
    const HALVES: usize = 2;
    const STEPS: usize = 16;
    type Step = HalfAffine;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, s: usize, g: usize) -> L::Bytes {
        let (half, pair, side) = (s / 8, s / 2 % 4, s % 2);
        L::field::<3>(L::bytes(&block.quants[8 * half + 4 * side + g]), 2 * pair as i32)
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        let scale = L::field_ints::<0x0f>(L::ints_from_u8(&block.scales[s]), 0);
        block.d::<L>().mul(L::from_ints(scale))
    }

    #[inline(always)]
    fn min<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        let min = L::field_ints::<0x0f>(L::ints_from_u8(&block.scales[s]), 4);
        L::splat(0.0).sub(block.m::<L>()).mul(L::from_ints(min))
    }
}

impl TileEncoding for Q3K {
    const QUANTS: usize = 16;
    const HIGH: usize = 8;
    const SCALES: usize = 12;
    const HALVES: usize = 1;
    const STEPS: usize = 16;
    type Step = HalfSigned;
    const OFFSET: i32 = 3;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, s: usize, g: usize) -> L::Bytes {
        let (half, pair, side) = (s / 8, s / 2 % 4, s % 2);
        let low = L::field::<3>(L::bytes(&block.quants[8 * half + 4 * side + g]), 2 * pair as i32);
        let bit = (4 * half + pair) as i32;
        L::or(low, L::field::<4>(L::bytes(&block.high[4 * side + g]), bit - 2))
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        // Low nibbles in bytes 0..8, first of the even eight; upper pairs in bytes 8..12.
        let low = L::field_ints::<0x0f>(L::ints_from_u8(&block.scales[s % 8]), (s / 8 * 4) as i32);
        let high = L::ints_from_u8(&block.scales[8 + s % 4]);
        let high = L::field_ints::<0x30>(high, (s / 4 * 2) as i32 - 4);
        let scale = L::add_ints(L::or_ints(low, high), L::splat_int(-32));
        block.d::<L>().mul(L::from_ints(scale))
    }
}

/// Scale and minimum of sub-block `s` of Q4_K and Q5_K: 6-bit numbers in 12 bytes.
#[inline(always)]
fn six_bit_pair<L: Lanes>(block: &Block<'_>, s: usize) -> (L::Ints, L::Ints) {
    if s < 4 {
        let (scale, min) = (L::ints_from_u8(&block.scales[s]), L::ints_from_u8(&block.scales[s + 4]));
        (L::field_ints::<63>(scale, 0), L::field_ints::<63>(min, 0))
    } else {
        let both = L::ints_from_u8(&block.scales[s + 4]);
        let high_scale = L::field_ints::<0x30>(L::ints_from_u8(&block.scales[s - 4]), 2);
        let high_min = L::field_ints::<0x30>(L::ints_from_u8(&block.scales[s]), 2);
        let (scale, min) = (L::field_ints::<0x0f>(both, 0), L::field_ints::<0x0f>(both, 4));
        (L::or_ints(scale, high_scale), L::or_ints(min, high_min))
    }
}

#[inline(always)]
fn k_scale<L: Lanes>(block: &Block<'_>, s: usize) -> L {
    block.d::<L>().mul(L::from_ints(six_bit_pair::<L>(block, s).0))
}

#[inline(always)]
fn k_min<L: Lanes>(block: &Block<'_>, s: usize) -> L {
    L::splat(0.0).sub(block.m::<L>()).mul(L::from_ints(six_bit_pair::<L>(block, s).1))
}

impl TileEncoding for Q4K {
    const QUANTS: usize = 32;
    const HIGH: usize = 0;
    const SCALES: usize = 12;
    const HALVES: usize = 2;
    const STEPS: usize = 8;
    type Step = Affine;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, s: usize, g: usize) -> L::Bytes {
        block.nibbles::<L>(s / 2 * 8 + g, s % 2)
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        k_scale(block, s)
    }

    #[inline(always)]
    fn min<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        k_min(block, s)
    }
}

impl TileEncoding for Q5K {
    const QUANTS: usize = 32;
    const HIGH: usize = 8;
    const SCALES: usize = 12;
    const HALVES: usize = 2;
    const STEPS: usize = 8;
    type Step = Affine;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, s: usize, g: usize) -> L::Bytes {
        let fifth = L::field::<0x10>(L::bytes(&block.high[g]), s as i32 - 4);
        L::or(block.nibbles::<L>(s / 2 * 8 + g, s % 2), fifth)
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        k_scale(block, s)
    }

    #[inline(always)]
    fn min<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        k_min(block, s)
    }
}

impl TileEncoding for Q6K {
    const QUANTS: usize = 48;
    const HIGH: usize = 0;
    const SCALES: usize = 16;
    const HALVES: usize = 1;
    const STEPS: usize = 16;
    type Step = HalfSigned;

    #[inline(always)]
    fn group<L: Lanes>(block: &Block<'_>, s: usize, g: usize) -> L::Bytes {
        let lines = &block.quants[3 * s..3 * s + 3];
        if g < 3 {
            return L::field::<0x3f>(L::bytes(&lines[g]), 0);
        }
        // The last group stands in the top bits of the others.
        let high = L::field::<0x30>(L::bytes(&lines[0]), 2);
        let middle = L::field::<0x0c>(L::bytes(&lines[1]), 4);
        L::or(L::or(high, middle), L::field::<0x03>(L::bytes(&lines[2]), 6))
    }

    #[inline(always)]
    fn scale<L: Lanes>(block: &Block<'_>, s: usize) -> L {
        block.d::<L>().mul(L::from_ints(L::ints_from_i8(&block.scales[s])))
    }
}
