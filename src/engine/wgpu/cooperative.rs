//! Cooperative matrices, which a subgroup multiplies together: of those that a device has, the ones that
//! `kernels/matmul_half.wgsl` can use.

use super::pipelines::Kernel;
use std::env;

/// Set to `off`, no cooperative matrices are used, whatever the adapter offers.
pub(super) const VARIABLE: &str = "APR_QA_COOPERATIVE";

/// Square matrices of f16 that are multiplied and added in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cooperative {
    /// Rows, columns, and the columns that a product adds up.
    pub side: Side,
    /// Threads that multiply together.
    pub subgroup: u32,
}

/// Sizes that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Eight = 8,
    Sixteen = 16,
}

impl Cooperative {
    /// `kernel` for these matrices.
    pub fn with(self, kernel: Kernel) -> Kernel {
        let mut kernel = kernel.with("SUBGROUP: u32", self.subgroup);
        kernel.parts.push(self.side.part());
        kernel
    }
}

impl Side {
    /// The part of a kernel that says so.
    fn part(self) -> &'static str {
        match self {
            Side::Eight => "side_8",
            Side::Sixteen => "side_16",
        }
    }
}

/// Subgroups to a workgroup, as in `kernels/cooperative.wgsl`.
pub(super) const GROUPS: u32 = 4;

/// Bytes that a workgroup of `kernels/matmul_half.wgsl` shares.
const SHARED: u32 = 26 << 10;

/// What kernels need of a device to use cooperative matrices.
pub(super) const NEEDED: wgpu::Features =
    wgpu::Features::SHADER_F16.union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

impl Cooperative {
    /// The largest that the adapter has. None where it has none, where the size of its subgroups is not fixed, so that
    /// a kernel could not tell them apart, or where [`VARIABLE`] turns them off.
    pub fn of(adapter: &wgpu::Adapter) -> Option<Cooperative> {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let subgroup = info.subgroup_min_size;
        let usable = adapter.features().contains(NEEDED)
            && subgroup == info.subgroup_max_size
            && GROUPS * subgroup <= limits.max_compute_invocations_per_workgroup
            && SHARED <= limits.max_compute_workgroup_storage_size
            && env::var_os(VARIABLE).is_none_or(|value| value != "off");
        let offered = adapter.cooperative_matrix_properties();
        let has = |side: Side| offered.iter().any(|shape| fits(shape, side as u32));
        let side = [Side::Sixteen, Side::Eight].into_iter().filter(|_| usable).find(|side| has(*side))?;
        Some(Cooperative { side, subgroup })
    }
}

fn fits(shape: &wgpu::CooperativeMatrixProperties, side: u32) -> bool {
    use wgpu::CooperativeScalarType::{F16, F32};
    [shape.m_size, shape.n_size, shape.k_size] == [side; 3] && (shape.ab_type, shape.cr_type) == (F16, F32)
}

/// The shapes that the adapter multiplies, as evidence names them: `COOPERATIVE_MATRIX_16X16X16_F16_F32`.
pub(super) fn names(adapter: &wgpu::Adapter) -> Vec<String> {
    let name = |shape: &wgpu::CooperativeMatrixProperties| {
        let wgpu::CooperativeMatrixProperties { m_size, n_size, k_size, ab_type, cr_type, .. } = shape;
        format!("COOPERATIVE_MATRIX_{m_size}X{n_size}X{k_size}_{ab_type:?}_{cr_type:?}")
    };
    adapter.cooperative_matrix_properties().iter().map(name).collect()
}
