//! Kernels compiled for one device, each once: sources are put together, compiled when first used, and kept.

use super::device::{Device, words};
use super::sources::source;
use crate::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What makes a kernel: its parts in `kernels/`, in order, and the constants that stand before them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kernel {
    /// Names of files without ending; the first has the entry point and gives the kernel its name.
    pub parts: Vec<&'static str>,
    /// Declarations and their WGSL expressions.
    pub constants: Vec<(&'static str, String)>,
}

impl Kernel {
    /// A kernel without constants.
    pub fn new(parts: &[&'static str]) -> Kernel {
        Kernel { parts: parts.to_vec(), constants: Vec::new() }
    }

    /// The same with `const name = value;` before it.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Kernel {
        self.constants.push((name, value.to_string()));
        self
    }

    /// The name it has in tables: `matmul q8_0`, `matvec wide q8_0`.
    pub fn name(&self) -> String {
        let told = |prefix: &str| self.parts.iter().find_map(|p| p.strip_prefix(prefix));
        let numbers = told("unit_").filter(|numbers| *numbers != "f32");
        [Some(self.parts[0]), numbers, told("dequantize_")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Whether it multiplies with weights, all of the shard that is bound first.
    pub fn multiplies(&self) -> bool {
        self.parts.contains(&"products")
    }

    /// Its WGSL. What the parts enable stands first, as the language wants it.
    pub fn wgsl(&self) -> String {
        let (mut enabled, mut declared) = (String::new(), String::new());
        for (name, value) in &self.constants {
            declared.push_str(&format!("const {name} = {value};\n"));
        }
        for line in self.parts.iter().flat_map(|part| source(part).split_inclusive('\n')) {
            if line.starts_with("enable ") { &mut enabled } else { &mut declared }.push_str(line);
        }
        enabled + &declared
    }
}

/// A compiled kernel.
pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroupLayout,
    /// That of its kernel.
    pub name: String,
}

/// What was compiled so far.
#[derive(Default)]
pub(super) struct Pipelines(Mutex<HashMap<Kernel, Arc<Pipeline>>>);

impl Pipelines {
    /// `kernel`, compiled.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] naming the kernel, in the adapter's words.
    pub fn get(&self, device: &Device, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        let mut compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = compiled.get(kernel) {
            return Ok(Arc::clone(pipeline));
        }
        device.check()?;
        let pipeline = device.catch(|| compile(device, kernel)).map_err(|e| {
            device
                .error(format!("the adapter does not compile the kernel: {}", words(&e)))
                .at(format!("kernel `{}`", kernel.name()))
                .hint("use another adapter (--adapter) or driver, and report this one")
        })?;
        if let Some(kept) = &device.kept {
            kept.grew();
        }
        let pipeline = Arc::new(pipeline);
        compiled.insert(kernel.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
    }
}

fn compile(device: &Device, kernel: &Kernel) -> Pipeline {
    let (name, wgsl) = (kernel.name(), kernel.wgsl());
    let label = Some(name.as_str());
    let descriptor =
        wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(wgsl.as_str().into()) };
    // The tests run every kernel with the driver's checks.
    let module = if cfg!(debug_assertions) {
        device.raw.create_shader_module(descriptor)
    } else {
        // SAFETY: the kernels are this program's own. They index by sizes that the host takes from the buffers that it
        // binds, their loops end, and they divide by sizes that are not 0.
        unsafe { device.raw.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    };
    let entries: Vec<wgpu::BindGroupLayoutEntry> = bindings(&wgsl).map(layout_entry).collect();
    let bindings = wgpu::BindGroupLayoutDescriptor { label, entries: &entries };
    let bindings = device.raw.create_bind_group_layout(&bindings);
    let layout = device.raw.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&bindings)],
        immediate_size: IMMEDIATES,
    });
    let raw = device.raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            // Every kernel writes what it reads there.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: device.kept.as_ref().map(|kept| &kept.raw),
    });
    Pipeline { raw, bindings, name }
}

/// Bytes of immediates that every kernel may have.
pub(super) const IMMEDIATES: u32 = 64;

/// The bindings of `wgsl`, in order: whether each is only read. Every kernel declares one to a line.
fn bindings(wgsl: &str) -> impl Iterator<Item = (u32, bool)> {
    let declared = wgsl.lines().filter_map(|line| line.strip_prefix("@group(0) @binding("));
    (0..).zip(declared.map(|line| !line.contains("read_write")))
}

fn layout_entry((binding, read_only): (u32, bool)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
