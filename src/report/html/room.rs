//! How much of everything a page shows; what is left out is counted.

use super::super::text::{cut, one_line};

/// How much of each thing is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Rows of all suite tables together.
    pub rows: usize,
    /// Suites that have a table.
    pub suites: usize,
    /// Cases that are described: those that did not pass, and as many of those with charts that did.
    pub cases: usize,
    /// Charts of the whole page.
    pub charts: usize,
    /// Values that one chart draws.
    pub points: usize,
    /// Whether each bar says its value when it is pointed at.
    pub titles: bool,
    /// Findings, and measurements, and departures of one case.
    pub each: usize,
    /// Bytes of the free text of one case.
    pub detail: usize,
    /// Bytes of any other text that others wrote.
    pub text: usize,
    /// Expected failures, reasons of skips, rows of provenance.
    pub listed: usize,
}

impl Room {
    /// As much as a page ever shows.
    pub const MOST: Room = Room {
        rows: 20_000,
        suites: 1_000,
        cases: 300,
        charts: 100,
        points: 400,
        titles: true,
        each: 50,
        detail: 32_000,
        text: 2_000,
        listed: 2_000,
    };

    /// Tried in turn until the page is small enough. The last one has a bounded number of bounded things.
    pub const ALL: [Room; 5] = [
        Room::MOST,
        Room {
            rows: 4_000,
            cases: 200,
            charts: 40,
            titles: false,
            each: 30,
            detail: 8_000,
            text: 1_000,
            listed: 400,
            ..Room::MOST
        },
        Room {
            rows: 2_000,
            suites: 200,
            cases: 100,
            charts: 20,
            points: 200,
            titles: false,
            each: 20,
            detail: 2_000,
            text: 400,
            listed: 200,
        },
        Room {
            rows: 500,
            suites: 50,
            cases: 40,
            charts: 10,
            points: 100,
            titles: false,
            each: 10,
            detail: 800,
            text: 200,
            listed: 50,
        },
        Room {
            rows: 40,
            suites: 10,
            cases: 10,
            charts: 0,
            points: 0,
            titles: false,
            each: 5,
            detail: 200,
            text: 100,
            listed: 10,
        },
    ];

    /// Text of others on one line, cut to the room for it.
    pub fn line(&self, text: &str) -> String {
        cut(&one_line(text), self.text)
    }
}
