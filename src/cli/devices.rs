//! `devices`: the adapters that GPU backends can compute on, and which of them would be chosen.

use super::bench::rates_in_words;
use super::model::AdapterArg;
use crate::Result;
use crate::engine::{self, DeviceInfo, DeviceLimits, DeviceRates, choose_device};
use serde::Serialize;
use std::fmt::Write;

/// Arguments of `devices`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    adapter: AdapterArg,
    /// Also measure what the chosen adapter can do at most: bytes read, and operations in f32, f16 and int8.
    #[arg(long)]
    bench: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    /// Index of the adapter that a GPU backend would compute on.
    chosen: usize,
    /// By index.
    adapters: Vec<DeviceInfo>,
    /// What the chosen one can do at most, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<DeviceRates>,
}

/// Lists them; without an adapter, or without the one that was asked for, that is the error.
pub fn execute(args: &Args) -> Result<u8> {
    let adapters = engine::devices()?;
    let chosen = choose_device(&adapters, args.adapter.request())?;
    let measured = args.bench.then(|| engine::measure_device(Some(&chosen.to_string()))).transpose()?;
    if args.json {
        super::print_json(&Output { chosen, adapters, measured })?;
    } else {
        super::print_text(&text(&adapters, chosen, measured.as_ref()))?;
    }
    Ok(0)
}

fn text(adapters: &[DeviceInfo], chosen: usize, measured: Option<&DeviceRates>) -> String {
    let mut out = String::new();
    for (index, adapter) in adapters.iter().enumerate() {
        let mark = if index == chosen { "*" } else { " " };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{mark} {index}  {}", adapter.name);
        for (name, value) in facts(adapter) {
            let _ = writeln!(out, "     {name:<20} {value}");
        }
        if let Some(rates) = measured.filter(|_| index == chosen) {
            let _ = writeln!(out, "     {:<20} {}", "measured", rates_in_words(rates));
        }
    }
    out.push_str("* is what a GPU backend computes on; --adapter or APR_QA_ADAPTER choose another\n");
    out
}

fn facts(adapter: &DeviceInfo) -> Vec<(&'static str, String)> {
    let DeviceInfo { name: _, kind, driver, driver_info, api, vendor, device, features, limits } = adapter;
    let DeviceLimits {
        max_storage_buffer_binding_size: binding,
        max_buffer_size: buffer,
        max_compute_workgroup_storage_size: shared,
        max_compute_invocations_per_workgroup: invocations,
        max_compute_workgroups_per_dimension: workgroups,
        max_immediate_size: immediates,
        subgroup_min_size: least,
        subgroup_max_size: most,
    } = *limits;
    let subgroup = if least == most { least.to_string() } else { format!("{least} to {most}") };
    vec![
        ("kind", kind.word().to_owned()),
        ("interface", api.to_string()),
        ("driver", format!("{driver} {driver_info}").trim().to_owned()),
        ("vendor, device", format!("{vendor:#06x}, {device:#06x}")),
        ("storage binding", bytes(binding)),
        ("buffer", bytes(buffer)),
        ("workgroup storage", bytes(u64::from(shared))),
        ("workgroup", format!("{invocations} invocations")),
        ("dispatch", format!("{workgroups} workgroups in each direction")),
        ("immediates", bytes(u64::from(immediates))),
        ("subgroup", format!("{subgroup} invocations")),
        ("features", features.join(" ")),
    ]
}

/// In the largest unit that is no more than the number.
fn bytes(n: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| n >= *size) {
        Some((size, unit)) if n.is_multiple_of(*size) => format!("{} {unit}", n / size),
        Some((size, unit)) => format!("{:.1} {unit}", n as f64 / *size as f64),
        None => format!("{n} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_read_as_they_are() {
        let shown = [128, 32 << 10, 128 << 20, (2 << 30) - 1, 3 << 40].map(bytes);
        assert_eq!(shown, ["128 bytes", "32 KiB", "128 MiB", "2.0 GiB", "3 TiB"]);
    }
}
