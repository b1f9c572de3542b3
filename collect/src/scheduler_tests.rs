use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kumon_schema::rows::Exit;
use kumon_spool::RowBatch;
use kumon_testing::wait_for;

use crate::{
    ActiveCollector, Cadence, Collector, CollectorError, Health, Hook, Loss, PollContext, ProgramCost,
    RowSink, Scheduler, Subject,
};

/// What a test's collector does, by its name: the test changes it meanwhile.
#[derive(Default)]
struct Script {
    refuses_to_start: AtomicBool,
    fails: AtomicBool,
    panics: AtomicBool,
    polls: AtomicU64,
    /// Starts and polls wait until the test ends.
    hangs: Mutex<Option<Receiver<()>>>,
}

impl Script {
    fn wait(&self) {
        if let Some(end) = self.hangs.lock().unwrap().as_ref() {
            let _ = end.recv();
        }
    }
}

struct Scripted {
    name: &'static str,
    settings: &'static str,
    cadence: Cadence,
    script: Arc<Script>,
}

impl Collector for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn metrics(&self) -> Vec<&'static str> {
        vec!["exit"]
    }

    fn probe(&self) -> Vec<Hook> {
        Vec::new()
    }

    fn configuration(&self) -> String {
        self.settings.into()
    }

    fn cadence(&self) -> Cadence {
        self.cadence
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        self.script.wait();
        if self.script.refuses_to_start.load(Ordering::Relaxed) {
            return Err(CollectorError::because(self.name, "opening its file")("it isn't there"));
        }
        Ok(Box::new(Active { name: self.name, script: Arc::clone(&self.script) }))
    }
}

struct Active {
    name: &'static str,
    script: Arc<Script>,
}

impl ActiveCollector for Active {
    fn poll(&mut self, context: &mut PollContext<'_>) -> Result<(), CollectorError> {
        self.script.polls.fetch_add(1, Ordering::Relaxed);
        self.script.wait();
        assert!(!self.script.panics.load(Ordering::Relaxed), "its reader is broken");
        context.emitter.emit(&Exit { parent_name: self.name.as_bytes(), ..Exit::default() }, &Subject::Node);
        if self.script.fails.load(Ordering::Relaxed) {
            return Err(CollectorError::because(self.name, "reading its file")("the disk is gone"));
        }
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        vec![Loss { metric: "exit", reason: "map full", count: 1 }]
    }

    fn programs(&self) -> Vec<ProgramCost> {
        vec![ProgramCost {
            program: format!("on_{}", self.name),
            metrics: &["exit"],
            backend: Some("tp_btf"),
            runs: 1,
            run_time: 10,
        }]
    }
}

/// Counts rows by the collector that emitted them.
#[derive(Default)]
struct Counted(String);

impl RowSink for Counted {
    fn take(&mut self, batch: &mut RowBatch) {
        self.0 += std::str::from_utf8(batch.split().records("exit")).unwrap();
    }
}

impl Counted {
    fn of(&self, name: &str) -> usize {
        self.0.matches(name).count()
    }
}

/// A collector named `victim`, and one named `other` beside it that is always well.
fn start(cadence: Cadence) -> (Scheduler, Arc<Script>) {
    let script = Arc::new(Script::default());
    let victim = Scripted { name: "victim", settings: "", cadence, script: Arc::clone(&script) };
    let other = Scripted { name: "other", settings: "", cadence: Cadence::Drain, script: Arc::default() };
    let scheduler =
        Scheduler::start(vec![Box::new(victim), Box::new(other)], RowBatch::new(Arc::default())).unwrap();
    (scheduler, script)
}

fn fault(scheduler: &Scheduler) -> Option<String> {
    let states = scheduler.states();
    assert!(
        states.iter().all(|state| state.name == "victim" || state.health.fault().is_none()),
        "{states:?}"
    );
    states.iter().find(|state| state.name == "victim")?.health.fault().map(str::to_owned)
}

fn is_at_work(scheduler: &Scheduler) -> bool {
    scheduler.states().iter().all(|state| state.health.next_try().is_none())
}

#[test]
fn one_that_can_t_start_is_tried_again_later_and_later_while_the_others_work() {
    let script = Arc::new(Script::default());
    script.refuses_to_start.store(true, Ordering::Relaxed);
    let victim =
        Scripted { name: "victim", settings: "", cadence: Cadence::Drain, script: Arc::clone(&script) };
    let other = Scripted { name: "other", settings: "", cadence: Cadence::Drain, script: Arc::default() };
    let mut scheduler =
        Scheduler::start(vec![Box::new(victim), Box::new(other)], RowBatch::new(Arc::default())).unwrap();
    let mut rows = Counted::default();
    scheduler.poll(&[], &mut rows);
    assert_eq!((rows.of("victim"), rows.of("other")), (0, 1));
    assert_eq!(fault(&scheduler).unwrap(), "victim: opening its file: it isn't there");

    let begin = Instant::now();
    let after = |seconds| begin + Duration::from_secs(seconds);
    assert!(!scheduler.retry_failed(after(3)), "it is too early");
    assert!(scheduler.retry_failed(after(6)) && !is_at_work(&scheduler));
    assert!(!scheduler.retry_failed(after(9)), "the second pause is longer");
    script.refuses_to_start.store(false, Ordering::Relaxed);
    assert!(scheduler.retry_failed(after(11)) && is_at_work(&scheduler));
    scheduler.poll(&[], &mut rows);
    assert_eq!((rows.of("victim"), rows.of("other"), fault(&scheduler)), (1, 2, None));
}

#[test]
fn one_that_fails_at_work_leaves_the_others_running_and_its_rows_count() {
    let (mut scheduler, script) = start(Cadence::Drain);
    let mut rows = Counted::default();
    script.fails.store(true, Ordering::Relaxed);
    scheduler.poll(&[], &mut rows);
    assert_eq!((rows.of("victim"), rows.of("other")), (1, 1));
    assert_eq!(fault(&scheduler).unwrap(), "victim: reading its file: the disk is gone");
    assert!(is_at_work(&scheduler));
    script.fails.store(false, Ordering::Relaxed);
    scheduler.poll(&[], &mut rows);
    assert_eq!((rows.of("victim"), rows.of("other"), fault(&scheduler)), (2, 2, None));
}

#[test]
fn one_that_panics_is_started_again_and_what_it_lost_stays_counted() {
    for cadence in [Cadence::Drain, Cadence::OwnThread(Duration::from_millis(10))] {
        let (mut scheduler, script) = start(cadence);
        let mut rows = Counted::default();
        script.panics.store(true, Ordering::Relaxed);
        wait_for("the panic", Duration::from_secs(10), || {
            scheduler.poll(&[], &mut rows);
            !is_at_work(&scheduler)
        });
        assert_eq!(fault(&scheduler).unwrap(), "it panicked: its reader is broken");
        script.panics.store(false, Ordering::Relaxed);
        wait_for("the collector to be started again", Duration::from_secs(20), || {
            scheduler.retry_failed(Instant::now() + Duration::from_secs(6));
            scheduler.poll(&[], &mut rows);
            rows.of("victim") > 0
        });
        assert_eq!(fault(&scheduler), None);
        // Each of the two has lost one, and the one that went as well.
        assert_eq!(scheduler.losses(), [Loss { metric: "exit", reason: "map full", count: 3 }]);
    }
}

#[test]
fn one_that_panics_again_as_soon_as_it_is_started_is_tried_later_and_later() {
    let (mut scheduler, script) = start(Cadence::Drain);
    script.panics.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let after = |seconds| begin + Duration::from_secs(seconds);
    scheduler.poll(&[], &mut Counted::default());
    assert!(scheduler.retry_failed(after(60)) && is_at_work(&scheduler));
    scheduler.poll(&[], &mut Counted::default());
    assert!(!scheduler.retry_failed(after(9)), "the second pause is longer");
    assert!(scheduler.retry_failed(after(60)) && is_at_work(&scheduler));
}

#[test]
fn one_on_a_thread_of_its_own_may_hang_and_the_others_wait_for_nothing() {
    let (mut scheduler, script) = start(Cadence::OwnThread(Duration::from_millis(10)));
    let mut rows = Counted::default();
    wait_for("a row of each", Duration::from_secs(10), || {
        scheduler.poll(&[], &mut rows);
        rows.of("victim") > 0
    });
    let (end, hangs): (Sender<()>, Receiver<()>) = channel();
    *script.hangs.lock().unwrap() = Some(hangs);
    wait_for("the hang", Duration::from_secs(10), || {
        scheduler.poll(&[], &mut rows);
        fault(&scheduler).is_some_and(|fault| fault.starts_with("it hangs: its poll began"))
    });
    let (victim, other, begin) = (rows.of("victim"), rows.of("other"), Instant::now());
    (0..100).for_each(|_| scheduler.poll(&[], &mut rows));
    assert_eq!((rows.of("victim"), rows.of("other")), (victim, other + 100));
    assert!(begin.elapsed() < Duration::from_secs(5), "each poll waited for the one that hangs");
    drop(end);
    wait_for("the hang's end", Duration::from_secs(10), || {
        scheduler.poll(&[], &mut rows);
        rows.of("victim") > victim && fault(&scheduler).is_none()
    });
}

#[test]
fn the_last_rows_of_all_arrive() {
    let (mut scheduler, script) = start(Cadence::OwnThread(Duration::from_secs(3600)));
    let mut rows = Counted::default();
    scheduler.finish(&[], &mut rows);
    assert_eq!((rows.of("victim"), rows.of("other"), script.polls.load(Ordering::Relaxed)), (1, 1, 1));
}

#[test]
fn new_settings_restart_the_collector_that_they_concern_and_no_other() {
    for cadence in [Cadence::Drain, Cadence::OwnThread(Duration::from_millis(10))] {
        let (mut scheduler, script) = start(cadence);
        let mut rows = Counted::default();
        wait_for("a row of each", Duration::from_secs(10), || {
            scheduler.poll(&[], &mut rows);
            rows.of("victim") > 0
        });
        let others = Arc::new(Script::default());
        let collectors = |settings| -> Vec<Box<dyn Collector>> {
            let victim = Scripted { name: "victim", settings, cadence, script: Arc::clone(&script) };
            let script = Arc::clone(&others);
            vec![
                Box::new(victim),
                Box::new(Scripted { name: "other", settings: "", cadence: Cadence::Drain, script }),
            ]
        };
        assert_eq!(scheduler.replace(collectors(""), &[], &mut rows).unwrap(), [""; 0]);
        assert_eq!(scheduler.losses()[0].count, 2, "none was started anew");
        let cpu_time = |scheduler: &Scheduler| {
            let states = scheduler.states();
            states.iter().find(|state| state.name == "victim").unwrap().cpu_time
        };
        let before = cpu_time(&scheduler);
        assert_eq!(scheduler.replace(collectors("other ones"), &[], &mut rows).unwrap(), ["exit"]);
        assert!(
            before > 0 && cpu_time(&scheduler) >= before,
            "what the old one took of the CPU stays counted"
        );
        let polls = script.polls.load(Ordering::Relaxed);
        wait_for("the new one's rows", Duration::from_secs(10), || {
            scheduler.poll(&[], &mut rows);
            script.polls.load(Ordering::Relaxed) > polls
        });
        assert_eq!(scheduler.losses()[0].count, 3, "what the old one lost stays counted");
        let cost = |scheduler: &Scheduler| {
            let programs = scheduler.programs().into_iter().filter(|program| program.program == "on_victim");
            programs.map(|program| (program.runs, program.run_time, program.backend)).collect::<Vec<_>>()
        };
        if cadence == Cadence::Drain {
            assert_eq!(cost(&scheduler), [(2, 20, Some("tp_btf"))], "what the old one cost stays counted");
        }
        assert_eq!(others.polls.load(Ordering::Relaxed), 0, "the other one is still the first one");
        scheduler.replace(Vec::new(), &[], &mut rows).unwrap();
        assert!(scheduler.states().is_empty());
        assert_eq!(scheduler.losses()[0].count, 3, "what those lost that are gone stays counted");
        if cadence == Cadence::Drain {
            assert_eq!(cost(&scheduler), [(2, 20, None)], "it is attached nowhere any more");
        }
    }
}

#[test]
fn a_start_that_hangs_on_a_thread_of_its_own_holds_up_nobody_and_is_told() {
    let script = Arc::new(Script::default());
    let (end, hangs): (Sender<()>, Receiver<()>) = channel();
    *script.hangs.lock().unwrap() = Some(hangs);
    let cadence = Cadence::OwnThread(Duration::from_millis(10));
    let victim = Scripted { name: "victim", settings: "", cadence, script: Arc::clone(&script) };
    let other = Scripted { name: "other", settings: "", cadence: Cadence::Drain, script: Arc::default() };
    let mut scheduler =
        Scheduler::start(vec![Box::new(victim), Box::new(other)], RowBatch::new(Arc::default())).unwrap();
    let mut rows = Counted::default();
    wait_for("the hang", Duration::from_secs(10), || {
        scheduler.poll(&[], &mut rows);
        scheduler.states().iter().any(|state| matches!(state.health, Health::Hanging(_)))
    });
    assert!(fault(&scheduler).unwrap().starts_with("it hangs: its start began"));
    assert!(rows.of("other") > 0 && rows.of("victim") == 0);
    drop(end);
    wait_for("the start's end", Duration::from_secs(10), || {
        scheduler.poll(&[], &mut rows);
        rows.of("victim") > 0
    });
    assert!(scheduler.states().iter().all(|state| state.health == Health::Running));
}
