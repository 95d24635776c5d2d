//! A device for tests of single kernels: buffers in, one dispatch, one buffer out.

use std::sync::OnceLock;

/// An opened adapter.
pub(super) struct TestDevice {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

/// The first adapter, opened once for all tests, or `None` with a word on standard error where there is none.
pub(super) fn test_device() -> Option<&'static TestDevice> {
    static OPENED: OnceLock<Option<TestDevice>> = OnceLock::new();
    let opened = OPENED.get_or_init(open).as_ref();
    if opened.is_none() {
        eprintln!("SKIPPED, NOT TESTED: there is no adapter with immediates");
    }
    opened
}

fn open() -> Option<TestDevice> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    let adapter = adapters
        .into_iter()
        .filter(|a| a.features().contains(wgpu::Features::IMMEDIATES))
        .min_by_key(|a| a.get_info().device_type == wgpu::DeviceType::Cpu)?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("test"),
        required_features: wgpu::Features::IMMEDIATES,
        required_limits: adapter.limits(),
        ..Default::default()
    }))
    .expect("an adapter that is listed opens");
    Some(TestDevice { device, queue })
}

/// What a kernel is bound to.
pub(super) enum Bound<'a> {
    /// A buffer that is only read, with this content, a multiple of 4 bytes.
    Read(&'a [u8]),
    /// A buffer that is written, with this content before; the last one's content is the result.
    Write(&'a [u8]),
}

impl TestDevice {
    /// Runs entry point `main` of `wgsl` on `groups` workgroups.
    pub fn run(&self, wgsl: &str, bound: &[Bound<'_>], immediates: &[u32], groups: [u32; 3]) -> Vec<u8> {
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(wgsl.into()),
        });
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..)
            .zip(bound)
            .map(|(binding, bound)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: matches!(bound, Bound::Read(_)) },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let bindings = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 4 * immediates.len() as u32,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let buffers: Vec<wgpu::Buffer> = bound.iter().map(|b| self.buffer(b)).collect();
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
            .zip(&buffers)
            .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() })
            .collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &bindings,
            entries: &entries,
        });
        let last = buffers.last().expect("a kernel writes something");
        let back = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: last.size(),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.set_immediates(0, bytemuck::cast_slice(immediates));
            pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        }
        encoder.copy_buffer_to_buffer(last, 0, &back, 0, last.size());
        self.queue.submit([encoder.finish()]);
        back.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("the buffer can be read"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        let bytes = back.get_mapped_range(..).expect("it is mapped").to_vec();
        back.unmap();
        bytes
    }

    fn buffer(&self, bound: &Bound<'_>) -> wgpu::Buffer {
        let (Bound::Read(bytes) | Bound::Write(bytes)) = bound;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.len() as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }
}
