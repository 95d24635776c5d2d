//! Gates: one falsifiable claim each, one file each, all in [`GATES`].
