//! The backends `wgpu` and `wgpu-fast`: kernels in WGSL on whatever adapter Vulkan, Metal or DX12 shows.

mod adapter;

pub(super) use adapter::{adapters, choose};
