//! Backends on the GPU, by wgpu: plain WGSL from `kernels/`.

mod planes;
mod sources;

#[cfg(test)]
mod decoding;
#[cfg(test)]
mod test_device;
