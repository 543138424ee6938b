//! An engine that waits for jobs uses no processor time, its pool of threads included.
//!
//! There is one test here, in a binary of its own, because the time is that of the whole process.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation of a test is a panic"
)]

use std::thread::sleep;
use std::time::Duration;

use postern_engine::{
    Engine, EngineConfig, Event, Job, ModelManifest, Next, Prompt, Sampling, VerifiedModel,
};
use postern_testkit::gguf::TinyModel;

/// How long the engine is watched.
const WATCHED: Duration = Duration::from_secs(2);
/// What threads may need to find that there is nothing to do, and a tick that was begun before: hundredths of a second.
const IDLE_TICKS_MAX: u64 = 2;
/// From the last event until threads are expected to sleep; they spin for far less.
const SETTLING: Duration = Duration::from_millis(200);
/// One that is spun through would use all of [`WATCHED`].
const THREADS: usize = 3;

#[test]
fn an_engine_without_jobs_uses_no_processor_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    std::fs::write(&file, TinyModel::new("llama").build()).unwrap();
    let manifest = ModelManifest::pin(&file, "tiny").unwrap();
    let model = VerifiedModel::load(&manifest, &mut |_| {}).unwrap();
    let config = EngineConfig {
        threads: Some(THREADS),
        ..EngineConfig::default()
    };
    let engine = Engine::start(model, &config).unwrap();
    assert_eq!(engine.info().backend, "native");
    check(&engine, "after it was loaded");
    assert_eq!(compute_threads(), THREADS - 1);
    generate(&engine);
    check(&engine, "after a generation");
}

fn check(engine: &Engine, when: &str) {
    sleep(SETTLING);
    let before = ticks();
    sleep(WATCHED);
    let used = ticks() - before;
    assert!(
        used <= IDLE_TICKS_MAX,
        "{used} ticks in {WATCHED:?} {when}, at most {IDLE_TICKS_MAX}"
    );
    assert!(engine.is_running());
}

fn generate(engine: &Engine) {
    let generation = engine
        .submit(Job {
            prompt: Prompt::Tokens(vec![65; 40]),
            sampling: Sampling::greedy(),
            max_tokens: 100,
            stop: Vec::new(),
        })
        .unwrap();
    loop {
        match generation.next(Duration::from_secs(1)) {
            Next::Event(Event::Done(_)) => return,
            Next::Event(Event::Failed(error)) => panic!("{error}"),
            Next::Event(_) | Next::Nothing => {}
            Next::Ended => panic!("the last event says that it is the last"),
        }
    }
}

/// Processor time of this process, in user and in system mode, in the unit of proc_pid_stat(5), fields 14 and 15.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The second field, the name, ends with the last bracket.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}

/// Threads of the pool.
fn compute_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names
        .filter(|name| name.as_ref().is_ok_and(|name| name.starts_with("compute-")))
        .count()
}
