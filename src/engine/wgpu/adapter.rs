//! The adapters of this machine in a fixed order: hardware before software, the better kind first.

use super::cooperative;
use crate::Result;
use crate::engine::device::{Api, DeviceInfo, DeviceKind, DeviceLimits, choose_device};

/// Every adapter that Vulkan, Metal or DX12 shows, best first. A driver that lists its adapters in the same order
/// gives the same order here.
pub(in crate::engine) fn adapters() -> Vec<(wgpu::Adapter, DeviceInfo)> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    if (wgpu::Instance::enabled_backend_features() & backends).is_empty() {
        // On a system that has none of them wgpu would panic.
        return Vec::new();
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    let mut all: Vec<_> = found.into_iter().filter_map(|a| describe(&a).map(|info| (a, info))).collect();
    // Stable: among equals the driver's own order.
    all.sort_by_key(|(_, info)| (info.kind, info.api));
    all
}

/// The adapter that `request` means; see [`choose_device`].
///
/// # Errors
/// Those of [`choose_device`].
pub(in crate::engine) fn choose(request: Option<&str>) -> Result<(wgpu::Adapter, DeviceInfo)> {
    let (mut adapters, infos): (Vec<_>, Vec<_>) = adapters().into_iter().unzip();
    let at = choose_device(&infos, request)?;
    Ok((adapters.swap_remove(at), infos[at].clone()))
}

/// An adapter as plain data; none where it is reached by something else.
fn describe(adapter: &wgpu::Adapter) -> Option<DeviceInfo> {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let api = match info.backend {
        wgpu::Backend::Vulkan => Api::Vulkan,
        wgpu::Backend::Metal => Api::Metal,
        wgpu::Backend::Dx12 => Api::Dx12,
        wgpu::Backend::Noop | wgpu::Backend::Gl | wgpu::Backend::BrowserWebGpu => return None,
    };
    let offered = adapter.features() & computing();
    let mut features: Vec<String> = offered.iter_names().map(|(name, _)| name.to_owned()).collect();
    features.extend(cooperative::names(adapter));
    features.sort_unstable();
    features.dedup();
    Some(DeviceInfo {
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Other => DeviceKind::Other,
            wgpu::DeviceType::Cpu => DeviceKind::Cpu,
        },
        driver: info.driver,
        driver_info: info.driver_info,
        api,
        vendor: info.vendor,
        device: info.device,
        features,
        limits: DeviceLimits {
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            max_buffer_size: limits.max_buffer_size,
            max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            max_compute_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
            max_immediate_size: limits.max_immediate_size,
            subgroup_min_size: info.subgroup_min_size,
            subgroup_max_size: info.subgroup_max_size,
        },
    })
}

/// The features that computing can make use of; what is left out is about textures and drawing.
fn computing() -> wgpu::Features {
    use wgpu::Features as F;
    F::SHADER_F16
        | F::SHADER_F64
        | F::SHADER_I16
        | F::SHADER_INT64
        | F::SHADER_INT64_ATOMIC_MIN_MAX
        | F::SHADER_INT64_ATOMIC_ALL_OPS
        | F::SHADER_FLOAT32_ATOMIC
        | F::SUBGROUP
        | F::SUBGROUP_BARRIER
        | F::MEMORY_DECORATION_COHERENT
        | F::IMMEDIATES
        | F::MAPPABLE_PRIMARY_BUFFERS
        | F::BUFFER_BINDING_ARRAY
        | F::STORAGE_RESOURCE_BINDING_ARRAY
        | F::PASSTHROUGH_SHADERS
        | F::PIPELINE_CACHE
        | F::TIMESTAMP_QUERY
        | F::TIMESTAMP_QUERY_INSIDE_ENCODERS
        | F::TIMESTAMP_QUERY_INSIDE_PASSES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds on any machine; on one without an adapter there is nothing to order and no choice to make.
    #[test]
    fn adapters_stand_in_one_order_hardware_first_and_each_can_be_chosen() {
        let infos: Vec<DeviceInfo> = adapters().into_iter().map(|(_, info)| info).collect();
        let again: Vec<DeviceInfo> = adapters().into_iter().map(|(_, info)| info).collect();
        assert_eq!(infos, again);
        assert!(infos.is_sorted_by_key(|info| (info.kind, info.api)));
        for (i, info) in infos.iter().enumerate() {
            let (adapter, chosen) = choose(Some(&i.to_string())).expect("an index that is there");
            assert_eq!((&chosen, adapter.get_info().name == info.name), (info, true));
            assert!(
                !info.name.is_empty() && info.limits.max_storage_buffer_binding_size >= 1 << 27,
                "{info:?}"
            );
        }
        let unnamed = choose(None);
        assert_eq!(unnamed.is_ok(), !infos.is_empty());
        assert!(choose(Some("no such adapter")).is_err());
    }
}
