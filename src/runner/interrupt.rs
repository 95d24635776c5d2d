//! SIGINT and SIGTERM: the first one ends the run with its reports, a second one ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

/// Whether a signal came, and which.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicU8>);

const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

impl Interrupt {
    /// Listens from now on, on a thread of its own. Without the ability to listen the signals keep their
    /// default effect.
    #[cfg(unix)]
    pub fn listen() -> Interrupt {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = Interrupt::default();
        let seen = interrupt.clone();
        let listener = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                let (Ok(mut int), Ok(mut term)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                loop {
                    let number = tokio::select! { _ = int.recv() => SIGINT, _ = term.recv() => SIGTERM };
                    if seen.0.swap(number, Ordering::SeqCst) != 0 {
                        std::process::exit(128 + i32::from(number));
                    }
                }
            });
        };
        // Without the thread the run is only not interruptible in an orderly way.
        let _ = thread::Builder::new().name("signals".into()).spawn(listener);
        interrupt
    }

    /// Where there are no Unix signals, an interrupt ends the program.
    #[cfg(not(unix))]
    pub fn listen() -> Interrupt {
        Interrupt::default()
    }

    /// The signal that came.
    pub fn signal(&self) -> Option<&'static str> {
        match self.0.load(Ordering::SeqCst) {
            SIGINT => Some("SIGINT"),
            SIGTERM => Some("SIGTERM"),
            _ => None,
        }
    }

    /// The exit code that belongs to the signal that came.
    pub fn exit_code(&self) -> Option<u8> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            number => Some(128 + number),
        }
    }
}
