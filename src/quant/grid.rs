//! Code books: a block holds indexes, and each index stands for a vector of small numbers.

/// Elements that are the same up to their sign: bit `j` of the byte says that element `j` is negative. Seven bits are
/// stored; the eighth makes the number of negative ones even.
#[inline]
pub(super) fn even_signs(seven: u32) -> u8 {
    let seven = seven as u8 & 127;
    seven | ((seven.count_ones() as u8 & 1) << 7)
}

/// `y[j] = scale * magnitude(j)`, negated where bit `j` of `signs` is set.
#[inline]
pub(super) fn signed(y: &mut [f32], scale: f32, magnitude: impl Fn(usize) -> u8, signs: u8) {
    for (j, y) in y.iter_mut().enumerate() {
        let product = scale * f32::from(magnitude(j));
        *y = if signs >> j & 1 == 1 { -product } else { product };
    }
}

/// Magnitude `j` of an entry of the IQ2 code books.
#[inline]
pub(super) fn iq2(entry: u16, j: usize) -> u8 {
    [8, 25, 43, 0][usize::from(entry >> (2 * j) & 3)]
}

/// Magnitude `j` of an entry of IQ3_XXS's code book.
#[inline]
pub(super) fn iq3_xxs(entry: u16, j: usize) -> u8 {
    [4, 12, 20, 28, 36, 44, 52, 62][usize::from(entry >> (3 * j) & 7)]
}

/// Magnitude `j` of an entry of IQ3_S's code book.
#[inline]
pub(super) fn iq3_s(entry: u16, j: usize) -> u8 {
    2 * (entry >> (3 * j) & 7) as u8 + 1
}

/// Element `j` of an entry of IQ1's code book: -1, 0 or 1.
#[inline]
pub(super) fn iq1(entry: u16, j: usize) -> i8 {
    (entry >> (2 * j) & 3) as i8 - 1
}

/// `N` entries of equally many hexadecimal digits.
pub(super) const fn entries<const N: usize>(hex: &str) -> [u16; N] {
    let digits = hex.as_bytes();
    let each = digits.len() / N;
    assert!(each * N == digits.len(), "every entry has the same number of digits");
    let mut out = [0; N];
    let mut i = 0;
    while i < digits.len() {
        let digit = match digits[i] {
            d @ b'0'..=b'9' => d - b'0',
            d @ b'a'..=b'f' => d - b'a' + 10,
            _ => panic!("not a hexadecimal digit"),
        };
        out[i / each] = out[i / each] << 4 | digit as u16;
        i += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::iq1_grid::IQ1;
    use super::super::iq2_grids::{IQ2_S, IQ2_XS, IQ2_XXS};
    use super::super::iq3_grids::{IQ3_S, IQ3_XXS};
    use super::*;

    fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
        bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }

    /// The hashes are those of GGML's own tables, byte by byte as they lie in memory.
    #[test]
    fn the_code_books_expand_to_ggmls() {
        let hash = |book: &[u16], len: usize, element: fn(u16, usize) -> u8| {
            assert!(book.is_sorted_by(|a, b| a < b), "entries ascend");
            fnv1a(book.iter().flat_map(|e| (0..len).map(move |j| element(*e, j))))
        };
        assert_eq!(hash(&IQ2_XXS, 8, iq2), 0xbb4e_e025_b5ac_6e8e);
        assert_eq!(hash(&IQ2_XS, 8, iq2), 0xc9b1_ee61_e799_09bd);
        assert_eq!(hash(&IQ2_S, 8, iq2), 0x123e_dd38_a3b6_2b90);
        assert_eq!(hash(&IQ3_XXS, 4, iq3_xxs), 0xdfa5_dc83_d6a1_55d5);
        assert_eq!(hash(&IQ3_S, 4, iq3_s), 0xfa37_020c_25b4_4829);
        assert_eq!(hash(&IQ1, 8, |e, j| iq1(e, j) as u8), 0x6703_ed86_3501_ae2e);
    }

    #[test]
    fn an_even_number_of_elements_is_negative() {
        for seven in 0..128 {
            let signs = even_signs(seven);
            assert_eq!(u32::from(signs) & 127, seven);
            assert!(signs.count_ones().is_multiple_of(2));
        }
    }
}
