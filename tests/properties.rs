//! No bytes make a parser panic: damaged seeds and attacks, and plain noise. The fuzz targets in `fuzz/` run the same
//! functions for longer.

use crate::heap;
use crate::mutate::Mutator;
use crate::parsers::{PARSERS, Parser};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// Cases for each parser and kind of input.
const CASES: u32 = 600;

/// What a parser may hold at once for a file of `len` bytes: its parsed form is a multiple of it, and a vocabulary
/// may be padded.
fn justified(len: usize) -> usize {
    (16 << 20) + 256 * len
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_survived(damage in any::<u64>()) {
        for (parser, sound) in sound_files() {
            let data = Mutator::new(damage).damage(parser.name, sound);
            prop_assert!(survived(parser, &data), "{} with damage {damage}", parser.name);
        }
    }

    #[test]
    fn noise_is_survived(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        for (parser, sound) in sound_files() {
            prop_assert!(survived(parser, &noise));
            // Behind the right first bytes it gets further.
            let mut data = sound[0][..sound[0].len().min(48)].to_vec();
            data.extend(&noise);
            prop_assert!(survived(parser, &data));
        }
    }
}

#[test]
fn damage_is_mostly_noticed_and_sometimes_harmless() {
    for (parser, sound) in sound_files() {
        let mut mutator = Mutator::new(7);
        let accepted =
            (0..CASES).filter(|_| (parser.parse)(&mutator.damage(parser.name, sound)).is_ok()).count();
        assert!(
            (1..CASES as usize / 2).contains(&accepted),
            "{}: {accepted} of {CASES} accepted",
            parser.name
        );
    }
}

fn survived(parser: &Parser, data: &[u8]) -> bool {
    let (_, heap) = heap::measure(|| drop((parser.parse)(data)));
    heap.peak <= justified(data.len())
}

/// A parser with the seeds of the attack corpus that it accepts.
type Sound = (&'static Parser, Vec<Vec<u8>>);

fn sound_files() -> &'static [Sound] {
    static FILES: LazyLock<Vec<Sound>> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("attacks").join("seeds");
        let seeds: Vec<Vec<u8>> = fs::read_dir(folder)
            .expect("the seeds are committed")
            .map(|entry| fs::read(entry.expect("readable").path()).expect("readable"))
            .collect();
        let of = |parser: &Parser| seeds.iter().filter(|s| (parser.parse)(s).is_ok()).cloned().collect();
        PARSERS.iter().map(|parser| (parser, of(parser))).collect()
    });
    &FILES
}
