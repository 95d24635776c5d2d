//! The devices that GPU backends compute on, as plain data, and which of them a request means.
//!
//! One that was asked for is used or is an error; nothing ever falls back to the processor in silence.

use crate::record::Adapter;
use crate::{Error, Kind, Result};
use serde::Serialize;
use std::fmt;

/// What an adapter is and offers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// As its driver names it: `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Hardware or software.
    pub kind: DeviceKind,
    /// Name of the driver.
    pub driver: String,
    /// Its version, in the driver's own form.
    pub driver_info: String,
    /// The interface that it is reached by.
    pub api: Api,
    /// Id of the vendor, on PCI mostly.
    pub vendor: u32,
    /// Id of the device, by its vendor.
    pub device: u32,
    /// What it offers beyond the least that computing takes, in alphabetical order: `SHADER_F16`, `SUBGROUP`.
    pub features: Vec<String>,
    /// How much of it.
    pub limits: DeviceLimits,
}

/// Limits that decide how weights and kernels are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceLimits {
    /// Bytes of a buffer that a kernel sees at once.
    pub max_storage_buffer_binding_size: u64,
    /// Bytes of a buffer.
    pub max_buffer_size: u64,
    /// Bytes that the invocations of a workgroup share.
    pub max_compute_workgroup_storage_size: u32,
    /// Invocations of a workgroup.
    pub max_compute_invocations_per_workgroup: u32,
    /// Workgroups of a dispatch, in each of its three directions.
    pub max_compute_workgroups_per_dimension: u32,
    /// Bytes of constants that come with a dispatch.
    pub max_immediate_size: u32,
    /// Least invocations of a subgroup.
    pub subgroup_min_size: u32,
    /// Most invocations of a subgroup.
    pub subgroup_max_size: u32,
}

/// What an adapter was seen to do at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeviceRates {
    /// Bytes per second, read from its memory one after the other.
    #[serde(rename = "read_bytes_per_s")]
    pub read: f64,
    /// Operations per second of f32 fused multiply-adds; one is two operations.
    #[serde(rename = "f32_operations_per_s")]
    pub f32: f64,
    /// Of f16 ones; none where kernels have no f16.
    #[serde(rename = "f16_operations_per_s")]
    pub f16: Option<f64>,
    /// Of dot products of four signed bytes; one is eight operations.
    #[serde(rename = "int8_operations_per_s")]
    pub int8: f64,
    /// Of cooperative matrices, f16 products added in f32; none where kernels use none.
    #[serde(rename = "cooperative_operations_per_s")]
    pub cooperative: Option<f64>,
}

/// Time that the kernels of one name took on the device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelTime {
    /// The kernel, with the encoding of the weights that it reads: `matvec q4_k`.
    pub name: String,
    /// How often it was run.
    pub dispatches: u64,
    /// In all.
    pub seconds: f64,
    /// Bytes of the weights that it multiplied, each counted once a dispatch; 0 for a kernel without.
    pub weight_bytes: u64,
}

/// What kind of thing computes. The order is that of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A card with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU as a virtual machine shows it.
    Virtual,
    /// It does not say.
    Other,
    /// Software on the processor.
    Cpu,
}

/// The interface that an adapter is reached by. The order is that of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Api {
    /// Vulkan, on Linux, Windows and Android.
    Vulkan,
    /// Metal, on Apple's systems.
    Metal,
    /// Direct3D 12, on Windows.
    #[serde(rename = "DX12")]
    Dx12,
}

impl DeviceInfo {
    /// What evidence holds of it.
    pub fn adapter(&self) -> Adapter {
        Adapter {
            name: self.name.clone(),
            kind: self.kind.word().to_owned(),
            driver: format!("{} {}", self.driver, self.driver_info).trim().to_owned(),
            api: self.api.to_string(),
            features: self.features.clone(),
        }
    }
}

/// The index of the adapter that `request` means, in [`devices`](super::devices)'s order: an index, a kind
/// (`discrete`, `integrated`, `virtual`, `other`, `cpu`), or a part of a name in any case. Without a request it is the
/// first, which is hardware where there is any.
///
/// # Errors
/// [`Kind::Environment`] where there is none, or none that is meant; [`Kind::Usage`] where several are.
pub fn choose_device(devices: &[DeviceInfo], request: Option<&str>) -> Result<usize> {
    let request = request.map(str::trim).filter(|wanted| !wanted.is_empty());
    if devices.is_empty() {
        let wanted = request.map_or("adapter".to_owned(), |wanted| format!("adapter `{wanted}`"));
        let what = "there is no GPU adapter: no driver for Vulkan, Metal or DX12 shows one";
        return Err(Error::new(Kind::Environment, wanted, what).hint(HOW_TO_GET_ONE));
    }
    let Some(wanted) = request else { return Ok(0) };
    let subject = format!("adapter `{wanted}`");
    if let Ok(index) = wanted.parse::<usize>() {
        // A number is never part of a name: an index that is one too high must not mean a card with that digit.
        let none = || Error::new(Kind::Environment, &*subject, "there is no adapter of that index");
        return if index < devices.len() { Ok(index) } else { Err(none().hint(listed(devices))) };
    }
    let lower = wanted.to_lowercase();
    let of_kind = |device: &DeviceInfo| device.kind.word() == lower;
    let by_kind = DeviceKind::ALL.iter().any(|kind| kind.word() == lower);
    let meant = |device: &DeviceInfo| {
        if by_kind { of_kind(device) } else { device.name.to_lowercase().contains(&lower) }
    };
    let found: Vec<usize> = (0..devices.len()).filter(|i| meant(&devices[*i])).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            Err(Error::new(Kind::Environment, subject, "no adapter is meant by that").hint(listed(devices)))
        }
        [..] => Err(Error::new(Kind::Usage, subject, format!("{} adapters are meant by that", found.len()))
            .hint(listed(devices))),
    }
}

/// What to do where no driver shows an adapter.
const HOW_TO_GET_ONE: &str = "install the driver of the GPU, or a software one (Debian's packages libvulkan1 and \
                              mesa-vulkan-drivers)";

/// What there is, to choose from.
fn listed(devices: &[DeviceInfo]) -> String {
    let each = |(i, d): (usize, &DeviceInfo)| format!("{i} `{}` ({}, {})", d.name, d.kind.word(), d.api);
    let all: Vec<String> = devices.iter().enumerate().map(each).collect();
    format!("there are: {}", all.join("; "))
}

impl DeviceKind {
    /// Every kind, best first.
    pub const ALL: [DeviceKind; 5] = [
        DeviceKind::Discrete,
        DeviceKind::Integrated,
        DeviceKind::Virtual,
        DeviceKind::Other,
        DeviceKind::Cpu,
    ];

    /// As a request names it.
    pub fn word(self) -> &'static str {
        match self {
            DeviceKind::Discrete => "discrete",
            DeviceKind::Integrated => "integrated",
            DeviceKind::Virtual => "virtual",
            DeviceKind::Other => "other",
            DeviceKind::Cpu => "cpu",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Api::Vulkan => "Vulkan",
            Api::Metal => "Metal",
            Api::Dx12 => "DX12",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: DeviceKind) -> DeviceInfo {
        DeviceInfo {
            name: name.into(),
            kind,
            driver: "driver".into(),
            driver_info: String::new(),
            api: Api::Vulkan,
            vendor: 1,
            device: 2,
            features: vec!["SUBGROUP".into()],
            limits: DeviceLimits {
                max_storage_buffer_binding_size: 1 << 27,
                max_buffer_size: 1 << 31,
                max_compute_workgroup_storage_size: 1 << 15,
                max_compute_invocations_per_workgroup: 1 << 10,
                max_compute_workgroups_per_dimension: 65535,
                max_immediate_size: 128,
                subgroup_min_size: 8,
                subgroup_max_size: 8,
            },
        }
    }

    fn machine() -> Vec<DeviceInfo> {
        vec![
            device("GeForce RTX 4090", DeviceKind::Discrete),
            device("GeForce RTX 3060", DeviceKind::Discrete),
            device("Intel Arc", DeviceKind::Integrated),
            device("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceKind::Cpu),
        ]
    }

    #[test]
    fn an_index_a_kind_or_a_part_of_a_name_means_one_adapter() {
        let requests = [
            (None, 0),
            (Some(""), 0),
            (Some("3"), 3),
            (Some("RTX 4090"), 0),
            (Some(" rtx 3060"), 1),
            (Some("integrated"), 2),
            (Some("INTEL"), 2),
            (Some("cpu"), 3),
            (Some("LLVMpipe"), 3),
        ];
        for (request, expected) in requests {
            assert_eq!(choose_device(&machine(), request).expect("meant"), expected, "{request:?}");
        }
    }

    #[test]
    fn what_means_several_or_none_is_an_error_that_lists_them_all() {
        for (request, kind) in [
            ("discrete", Kind::Usage),
            ("geforce", Kind::Usage),
            ("radeon", Kind::Environment),
            ("virtual", Kind::Environment),
            ("4", Kind::Environment),
            ("4090", Kind::Environment),
            ("-1", Kind::Environment),
        ] {
            let error = choose_device(&machine(), Some(request)).expect_err("nothing to choose");
            assert_eq!(error.kind, kind, "{request}");
            let text = error.to_string();
            for known in machine() {
                assert!(text.contains(request) && text.contains(&known.name), "{text}");
            }
        }
    }

    #[test]
    fn without_an_adapter_the_error_says_what_was_looked_for_and_what_to_install() {
        for request in [None, Some("0"), Some("cpu")] {
            let error = choose_device(&[], request).expect_err("there is none");
            assert_eq!(error.kind, Kind::Environment);
            let text = error.to_string();
            assert!(text.contains("Vulkan, Metal or DX12") && text.contains("mesa-vulkan-drivers"), "{text}");
        }
    }

    #[test]
    fn kinds_are_in_order_of_preference() {
        assert!(DeviceKind::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Api::Vulkan < Api::Metal && Api::Metal < Api::Dx12);
    }
}
