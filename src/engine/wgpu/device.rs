//! One adapter, opened: its device and queue, the kernels compiled for it, and whether it still answers.

use super::adapter;
use super::cooperative::{self, Cooperative};
use super::disk_cache::{DiskCache, user_folder};
use super::pipelines::Pipelines;
use crate::engine::DeviceInfo;
use crate::{Error, Kind, Result};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

/// An opened adapter. Models share it, and so what was compiled for it.
pub(super) struct Device {
    pub raw: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: DeviceInfo,
    pub limits: wgpu::Limits,
    pub pipelines: Pipelines,
    /// The cooperative matrices that fast numerics multiply with, where it has such.
    pub cooperative: Option<Cooperative>,
    /// What earlier runs compiled, where the driver hands it out.
    pub kept: Option<DiskCache>,
    /// Bytes of buffers that were made and not dropped.
    pub in_use: AtomicU64,
    /// Bytes of memory that the adapter says it has, where it says. Software says anything.
    pub memory: Option<u64>,
    /// What took the device away, once something has.
    lost: Arc<OnceLock<String>>,
}

/// Those that were opened, each with what it was asked for by, as long as they answer: opening one anew would compile
/// every kernel again.
static OPENED: Mutex<Vec<(Option<String>, Arc<Device>)>> = Mutex::new(Vec::new());

/// What the kernels profit from, where the adapter has it.
const WELCOME: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::PIPELINE_CACHE);

impl Device {
    /// The device of the adapter that `request` names, opened if no model uses it yet.
    ///
    /// # Errors
    /// [`Kind::Environment`] where there is no such adapter or it cannot be opened; [`Kind::Usage`] for a request
    /// that names none or several.
    pub fn open(request: Option<&str>) -> Result<Arc<Device>> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|(_, device)| device.lost.get().is_none());
        if let Some((_, device)) = opened.iter().find(|(by, _)| by.as_deref() == request) {
            return Ok(Arc::clone(device));
        }
        let (adapter, info) = adapter::choose(request)?;
        let device = match opened.iter().find(|(_, device)| device.info == info) {
            Some((_, device)) => Arc::clone(device),
            None => Arc::new(Device::new(&adapter, info, user_folder().as_deref())?),
        };
        opened.push((request.map(str::to_owned), Arc::clone(&device)));
        Ok(device)
    }

    /// Opens the adapter alone, whoever else uses it. What it compiles is kept in the folder `caches`, if there is one.
    pub(super) fn new(adapter: &wgpu::Adapter, info: DeviceInfo, caches: Option<&Path>) -> Result<Device> {
        let failed = |what: String| Error::new(Kind::Environment, info.name.clone(), what);
        if !adapter.features().contains(wgpu::Features::IMMEDIATES) {
            return Err(failed("the adapter has no immediates, by which every kernel gets its sizes".into())
                .hint("choose another with --adapter; `apr-qa-runner devices` lists them"));
        }
        let cooperative = Cooperative::of(adapter);
        let mut features = wgpu::Features::IMMEDIATES | (adapter.features() & WELCOME);
        if cooperative.is_some() {
            features |= cooperative::NEEDED;
        }
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("apr-qa-runner"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::Performance,
            experimental_features: match cooperative {
                // SAFETY: of the experimental features cooperative matrices alone are asked for, and the kernels that use
                // them keep to what Vulkan demands of their pointers, strides and control flow.
                Some(_) => unsafe { wgpu::ExperimentalFeatures::enabled() },
                None => wgpu::ExperimentalFeatures::disabled(),
            },
            ..Default::default()
        };
        let (raw, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| failed(format!("it cannot be opened: {}", words(&e))))?;
        let lost = Arc::new(OnceLock::new());
        let cell = Arc::clone(&lost);
        raw.set_device_lost_callback(move |reason, message| {
            // Only the first reason counts.
            let _ = cell.set(format!("{message} ({reason:?})"));
        });
        let cell = Arc::clone(&lost);
        raw.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            // Nobody can tell what it spoilt, so nothing that comes from this device counts any more.
            let _ = cell.set(words(&error));
        }));
        let mut device = Device {
            raw,
            queue,
            info,
            limits,
            pipelines: Pipelines::default(),
            cooperative,
            kept: None,
            in_use: AtomicU64::new(0),
            memory: memory_of(adapter),
            lost,
        };
        device.kept = caches.and_then(|folder| DiskCache::open(&device, &adapter.get_info(), folder));
        Ok(device)
    }

    /// # Errors
    /// [`Kind::Environment`] with the adapter's words, once the device is lost.
    pub fn check(&self) -> Result<()> {
        match self.lost.get() {
            None => Ok(()),
            Some(words) => Err(self
                .error(format!("the device was lost: {words}"))
                .hint("cases on other backends go on; the next model opens the adapter anew")),
        }
    }

    /// Waits until that submission is done, or everything is.
    ///
    /// # Errors
    /// [`Kind::Environment`] where the device is lost.
    pub fn wait(&self, submitted: Option<wgpu::SubmissionIndex>) -> Result<()> {
        match self.raw.poll(wgpu::PollType::Wait { submission_index: submitted, timeout: None }) {
            Ok(_) => self.check(),
            Err(error) => Err(self.give_up(words(&error))),
        }
    }

    /// Shows `see` the first `size` bytes of a buffer that can be mapped, once `submitted` is done.
    ///
    /// # Errors
    /// [`Kind::Environment`] where the device is lost.
    pub fn read_back(
        &self,
        buffer: &wgpu::Buffer,
        size: u64,
        submitted: Option<wgpu::SubmissionIndex>,
        see: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let (tell, told) = mpsc::channel();
        buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
            // Nobody listens any more where the wait below failed.
            let _ = tell.send(result);
        });
        self.wait(submitted)?;
        // Another thread may have found the work done, and be about to tell.
        let answer = loop {
            match told.recv_timeout(Duration::from_millis(100)) {
                Ok(answer) => break answer,
                Err(mpsc::RecvTimeoutError::Timeout) => self.wait(None)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(self.give_up("a buffer was never mapped".into()));
                }
            }
        };
        self.check()?;
        answer.map_err(|e| self.give_up(words(&e)))?;
        let view = buffer.get_mapped_range(0..size).map_err(|e| self.give_up(words(&e)))?;
        see(&view);
        drop(view);
        buffer.unmap();
        Ok(())
    }

    /// An error of this adapter.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::new(Kind::Environment, self.info.name.clone(), what)
    }

    /// Nothing that comes from this device counts any more.
    pub fn give_up(&self, words: String) -> Error {
        let _ = self.lost.set(words);
        self.check().err().unwrap_or_else(|| self.error("the device was lost"))
    }

    /// Runs `make` and catches what the device says to it.
    ///
    /// # Errors
    /// [`Kind::Environment`] in the adapter's words.
    pub fn catch<T>(&self, make: impl FnOnce() -> T) -> std::result::Result<T, wgpu::Error> {
        let memory = self.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.raw.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make();
        // In the reverse order; natively the answers are there at once.
        let found = [validation, internal, memory].map(|scope| pollster::block_on(scope.pop()));
        match found.into_iter().flatten().next() {
            None => Ok(made),
            Some(error) => Err(error),
        }
    }
}

/// The size of the largest heap of the adapter's own memory, which wgpu itself does not tell.
#[cfg(not(target_vendor = "apple"))]
fn memory_of(adapter: &wgpu::Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: what is behind the guard is only asked, while the guard keeps it alive.
    let properties = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let heaps = properties.memory_heaps.iter().take(properties.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Metal and its memory are one with the system's.
#[cfg(target_vendor = "apple")]
fn memory_of(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// An error with its causes, on one line.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut all = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_words = inner.to_string();
        if !all.contains(&inner_words) {
            all.push_str(": ");
            all.push_str(&inner_words);
        }
        cause = inner.source();
    }
    all.split_whitespace().collect::<Vec<_>>().join(" ")
}
