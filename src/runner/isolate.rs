//! One case on a thread of its own: a panic becomes an answer, and so does a case that does not end.

use super::interrupt::Interrupt;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How a case ended.
pub enum Ended<T> {
    /// It returned.
    Returned(T),
    /// It panicked: message and place.
    Panicked(String),
    /// It did not end in time. Its thread goes on until it notices nothing; what it holds must not be used again.
    TimedOut,
    /// A signal came first.
    Interrupted,
}

/// Runs `work` on a thread of its own for at most `limit`. `waiting` is called now and then with the time so far.
pub fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    limit: Duration,
    interrupt: &Interrupt,
    waiting: &mut dyn FnMut(Duration),
) -> Ended<T> {
    hear_panics();
    let (sender, receiver) = mpsc::sync_channel(1);
    let start = Instant::now();
    let guarded = move || {
        IN_CASE.with(|flag| *flag.borrow_mut() = Some(String::new()));
        // The thread's data is dropped or abandoned with it: nothing broken is seen again.
        let outcome = panic::catch_unwind(AssertUnwindSafe(work));
        let place = IN_CASE.with(|flag| flag.borrow_mut().take()).unwrap_or_default();
        // The receiver may have given up: then nobody wants the outcome.
        let _ = sender.send(outcome.map_err(|_| place));
    };
    if let Err(error) = thread::Builder::new().name("case".into()).spawn(guarded) {
        return Ended::Panicked(format!("no thread could be started: {error}"));
    }
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(Ok(value)) => return Ended::Returned(value),
            Ok(Err(place)) => return Ended::Panicked(place),
            Err(RecvTimeoutError::Disconnected) => {
                return Ended::Panicked("the case's thread vanished".into());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt.signal().is_some() {
            return Ended::Interrupted;
        }
        if start.elapsed() >= limit {
            return Ended::TimedOut;
        }
        waiting(start.elapsed());
    }
}

/// Short enough that an interrupt feels immediate, long enough to cost nothing.
const TICK: Duration = Duration::from_millis(50);

thread_local! {
    /// On a case's thread: where its panic message goes.
    static IN_CASE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs, once, a hook that keeps a case's panic message with its place and leaves other threads' panics to the
/// hook before it.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept = IN_CASE.with(|flag| match flag.try_borrow_mut() {
                Ok(mut slot) => slot.as_mut().map(|text| *text = describe(info)).is_some(),
                Err(_) => false,
            });
            if !kept {
                before(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("panicked without a message");
    match info.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, limit_ms: u64) -> Ended<T> {
        run(work, Duration::from_millis(limit_ms), &Interrupt::default(), &mut |_| {})
    }

    #[test]
    fn a_value_comes_back() {
        assert!(matches!(ended(|| 41 + 1, 10_000), Ended::Returned(42)));
    }

    #[test]
    fn a_panic_is_an_answer_with_its_place() {
        let Ended::Panicked(message) = ended(|| -> u8 { panic!("weights of lead") }, 10_000) else {
            panic!("the panic was lost");
        };
        assert!(message.contains("weights of lead") && message.contains("isolate.rs:"), "{message}");
    }

    #[test]
    fn an_endless_case_is_left_behind() {
        let endless = || thread::sleep(Duration::from_secs(30));
        assert!(matches!(ended(endless, 60), Ended::TimedOut));
    }
}
