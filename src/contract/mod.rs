//! The laws as data: `contracts/*.yaml`, loaded, checked and enforced.
