//! What a device shall do, in order: dispatches and copies gather here and are submitted together.
//!
//! Several passes may record at the same time. They use buffers of their own and the device works in the order of
//! recording, so neither sees the other.

use super::device::{Device, words};
use super::memory::{Memory, STORAGE};
use super::pipelines::{IMMEDIATES, Kernel, Pipeline};
use super::profile::Profile;
use super::upload::Upload;
use crate::Result;
use crate::engine::KernelTime;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Steps that are recorded before the device gets them, so that it works while the next are recorded.
const SUBMIT_AFTER: usize = 128;

/// After so many submissions, bind groups of buffers that are gone go too: they hold the memory.
const SWEEP_AFTER: usize = 64;

/// A device and what it shall do next.
pub(super) struct Recorder {
    pub device: Arc<Device>,
    pending: Mutex<Pending>,
    upload: Mutex<Upload>,
    /// Where results land; kept between reads.
    landing: Mutex<Option<Arc<Memory>>>,
}

#[derive(Default)]
struct Pending {
    steps: Vec<Step>,
    /// Words that the steps read, of which `arena` gets a copy before they begin.
    words: Vec<u32>,
    arena: Option<Arc<Memory>>,
    scratch: [Option<Arc<Memory>>; 6],
    groups: HashMap<GroupKey, (wgpu::BindGroup, Vec<Weak<Memory>>)>,
    submissions: usize,
    /// While every kernel is timed.
    profile: Option<Profile>,
}

type GroupKey = (usize, Vec<u64>); // address of the pipeline, which `Pipelines` keeps; ids of the buffers

/// What the device does next.
pub(super) enum Step {
    Dispatch {
        pipeline: Arc<Pipeline>,
        group: wgpu::BindGroup,
        immediates: Vec<u32>,
        grid: [u32; 3],
        weight_bytes: u64,
    },
    Copy {
        from: Arc<Memory>,
        from_at: u64,
        to: Arc<Memory>,
        to_at: u64,
        size: u64,
    },
}

/// Memory that steps of one session hand to each other. The next session finds anything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scratch {
    /// Activations in integers of 16 bits.
    Wide,
    /// Activations in f16.
    Half,
    /// What splits of attention leave.
    Splits,
    /// The rows that the head reads.
    Normed,
    /// Logits on their way to the host.
    Logits,
    /// The best of them.
    Best,
}

/// A buffer of a dispatch.
#[derive(Clone, Copy)]
pub(super) enum Bound<'a> {
    /// The whole of it.
    Memory(&'a Arc<Memory>),
    /// The words that [`Session::words`] placed.
    Words,
}

/// Some steps in the making, which no other thread's come between.
pub(super) struct Session<'a> {
    recorder: &'a Recorder,
    pending: MutexGuard<'a, Pending>,
}

impl Recorder {
    pub fn new(device: Arc<Device>) -> Recorder {
        let upload = Mutex::new(Upload::new(&device));
        Recorder { device, pending: Mutex::default(), upload, landing: Mutex::default() }
    }

    /// Copies that the steps of every later session find done.
    pub fn upload(&self) -> MutexGuard<'_, Upload> {
        self.upload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records some steps that follow each other, with words of their own.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] once the device is lost.
    pub fn session(&self, words: usize) -> Result<Session<'_>> {
        self.device.check()?;
        self.upload().flush()?;
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut session = Session { recorder: self, pending };
        session.room(words)?;
        Ok(session)
    }

    /// From now on times every kernel.
    ///
    /// # Errors
    /// Those of [`Profile::new`], and of submitting what waits.
    pub fn begin_profile(&self) -> Result<()> {
        let profile = Profile::new(&self.device)?;
        let mut session = self.session(0)?;
        session.submit()?;
        session.pending.profile = Some(profile);
        Ok(())
    }

    /// Ends the profile; the times of what ran since it began.
    ///
    /// # Errors
    /// Those of submitting what waits.
    pub fn end_profile(&self) -> Result<Vec<KernelTime>> {
        let mut session = self.session(0)?;
        let submitted = session.submit();
        let profile = session.pending.profile.take();
        submitted?;
        Ok(profile.map_or_else(Vec::new, Profile::end))
    }
}

impl Session<'_> {
    /// Makes room for so many words, submitting what is recorded if they do not fit beside its own.
    fn room(&mut self, words: usize) -> Result<()> {
        let needed = ((self.pending.words.len() + words) * size_of::<u32>()) as u64;
        if self.pending.arena.as_ref().is_some_and(|a| a.size() >= needed) {
            return Ok(());
        }
        self.submit()?;
        let size = ((words * size_of::<u32>()) as u64).next_power_of_two().max(1 << 16);
        if self.pending.arena.as_ref().is_none_or(|a| a.size() < size) {
            self.pending.arena = Some(Memory::new(&self.recorder.device, size, STORAGE)?);
        }
        Ok(())
    }

    /// Places words that the next steps of this session read through [`Bound::Words`]; gives the index of the first.
    pub fn words(&mut self, words: impl IntoIterator<Item = u32>) -> u32 {
        let at = self.pending.words.len() as u32;
        self.pending.words.extend(words);
        at
    }

    /// Records a dispatch of `grid` workgroups.
    ///
    /// # Errors
    /// A kernel that does not compile.
    pub fn dispatch(
        &mut self,
        kernel: &Kernel,
        bound: &[Bound<'_>],
        immediates: &[u32],
        grid: [usize; 3],
    ) -> Result<()> {
        let device = &self.recorder.device;
        let pipeline = device.pipelines.get(device, kernel)?;
        debug_assert!(size_of_val(immediates) <= IMMEDIATES as usize);
        if grid.contains(&0) {
            return Ok(());
        }
        let arena = self.pending.arena.clone();
        let memories: Vec<&Arc<Memory>> = bound
            .iter()
            .map(|bound| match bound {
                Bound::Memory(memory) => memory,
                Bound::Words => arena.as_ref().expect("`session` makes an arena"),
            })
            .collect();
        let key = (Arc::as_ptr(&pipeline).addr(), memories.iter().map(|m| m.id).collect());
        let (group, _) = self.pending.groups.entry(key).or_insert_with(|| {
            let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
                .zip(&memories)
                .map(|(binding, memory)| wgpu::BindGroupEntry {
                    binding,
                    resource: memory.raw.as_entire_binding(),
                })
                .collect();
            let layout = &pipeline.bindings;
            let group = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
            (device.raw.create_bind_group(&group), memories.iter().map(|m| Arc::downgrade(m)).collect())
        });
        let step = Step::Dispatch {
            group: group.clone(),
            // The first binding of a kernel that multiplies weights holds them.
            weight_bytes: if kernel.multiplies() { memories[0].size() } else { 0 },
            pipeline,
            immediates: immediates.to_vec(),
            grid: grid.map(|n| n as u32),
        };
        self.pending.steps.push(step);
        Ok(())
    }

    /// Records a copy of bytes; offsets and size are multiples of 4.
    pub fn copy(&mut self, from: &Arc<Memory>, from_at: u64, to: &Arc<Memory>, to_at: u64, size: u64) {
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        self.pending.steps.push(Step::Copy { from, from_at, to, to_at, size });
    }

    /// Scratch memory of at least `size` bytes.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where there is no memory for it.
    pub fn scratch(&mut self, which: Scratch, size: usize) -> Result<Arc<Memory>> {
        let slot = &mut self.pending.scratch[which as usize];
        let memory = match slot.take() {
            Some(memory) if memory.size() >= size as u64 => memory,
            _ => Memory::new(&self.recorder.device, size as u64, STORAGE)?,
        };
        Ok(Arc::clone(slot.insert(memory)))
    }

    /// Ends the session, waits until everything recorded is done and fills `bytes` from the beginning of `source`.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where the device is lost or has no memory.
    pub fn read(mut self, source: &Arc<Memory>, bytes: &mut [u8]) -> Result<()> {
        let (recorder, size) = (self.recorder, bytes.len() as u64);
        let device = &recorder.device;
        if size == 0 {
            return Ok(());
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let kept = recorder.landing.lock().unwrap_or_else(PoisonError::into_inner).take();
        let landing = match kept {
            Some(landing) if landing.size() >= size => landing,
            _ => Memory::new(device, size, usage)?,
        };
        self.copy(source, 0, &landing, 0, size);
        let submitted = self.submit()?;
        drop(self);
        device.read_back(&landing.raw, size, submitted, |found| bytes.copy_from_slice(found))?;
        *recorder.landing.lock().unwrap_or_else(PoisonError::into_inner) = Some(landing);
        Ok(())
    }

    /// Ends the session. The device gets its steps now if many wait.
    ///
    /// # Errors
    /// Those of a submission.
    pub fn end(mut self) -> Result<()> {
        match self.pending.steps.len() >= SUBMIT_AFTER {
            true => self.submit().map(drop),
            false => Ok(()),
        }
    }

    /// Hands everything recorded to the device; nothing where nothing is. While a profile is taken it is also done, so
    /// that there is nothing to wait for.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where the device refuses it: then nothing of it counts, nor what depends on it, so
    /// the device is given up.
    pub fn submit(&mut self) -> Result<Option<wgpu::SubmissionIndex>> {
        let device = &self.recorder.device;
        device.check()?;
        let Pending { steps, words: arena_words, arena, profile, .. } = &mut *self.pending;
        if steps.is_empty() {
            return Ok(None);
        }
        let write_words = || {
            if let (Some(arena), false) = (arena, arena_words.is_empty()) {
                device.queue.write_buffer(&arena.raw, 0, bytemuck::cast_slice(arena_words));
            }
        };
        let refused = |error: wgpu::Error| device.give_up(words(&error));
        let submitted = match profile {
            None => {
                let submit = || {
                    write_words();
                    let mut encoder =
                        device.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                    encode(&mut encoder, steps);
                    device.queue.submit([encoder.finish()])
                };
                device.catch(submit).map(Some).map_err(refused)
            }
            Some(profile) => {
                let written = device.catch(write_words).map_err(refused);
                written.and_then(|()| profile.run(device, steps)).map(|()| None)
            }
        };
        steps.clear();
        arena_words.clear();
        self.pending.submissions += 1;
        if self.pending.submissions.is_multiple_of(SWEEP_AFTER) {
            self.pending.groups.retain(|_, (_, memories)| memories.iter().all(|m| m.strong_count() > 0));
        }
        submitted
    }
}

/// Dispatches that follow each other share a pass.
fn encode(encoder: &mut wgpu::CommandEncoder, steps: &[Step]) {
    for run in steps.chunk_by(|a, b| matches!((a, b), (Step::Dispatch { .. }, Step::Dispatch { .. }))) {
        let mut pass = None;
        for step in run {
            match step {
                Step::Copy { .. } => step.copy(encoder),
                Step::Dispatch { .. } => step.dispatch(pass.get_or_insert_with(|| {
                    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime()
                })),
            }
        }
    }
}

impl Step {
    /// The name of a dispatch's kernel, and the bytes of the weights that it multiplies; none of a copy.
    pub(super) fn timed(&self) -> Option<(&str, u64)> {
        match self {
            Step::Dispatch { pipeline, weight_bytes, .. } => Some((&pipeline.name, *weight_bytes)),
            Step::Copy { .. } => None,
        }
    }

    /// Encodes a copy; nothing of a dispatch.
    pub(super) fn copy(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Step::Copy { from, from_at, to, to_at, size } = self {
            encoder.copy_buffer_to_buffer(&from.raw, *from_at, &to.raw, *to_at, *size);
        }
    }

    /// Encodes a dispatch; nothing of a copy.
    pub(super) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        if let Step::Dispatch { pipeline, group, immediates, grid: [x, y, z], weight_bytes: _ } = self {
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, group, &[]);
            pass.set_immediates(0, bytemuck::cast_slice(immediates));
            pass.dispatch_workgroups(*x, *y, *z);
        }
    }
}
