//! What the kernel knows of this process, as the metrics that every Prometheus client shows (proc(5)).

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fs::{read_dir, read_to_string};

/// Seconds of processor time that this process has used; nothing where the kernel does not say.
pub fn processor_seconds() -> Option<f64> {
    let stat = Stat::read()?;
    Some((stat.number(14)? + stat.number(15)?) / clock_ticks_per_second() as f64)
}

/// Name, help and value of everything else.
pub fn gauges() -> Vec<(&'static str, &'static str, f64)> {
    let stat = Stat::read();
    let number = |position| stat.as_ref()?.number(position);
    let open = || Some(read_dir("/proc/self/fd").ok()?.count() as f64);
    let booted = || -> Option<f64> {
        let stat = read_to_string("/proc/stat").ok()?;
        stat.lines().find_map(|it| it.strip_prefix("btime "))?.trim().parse().ok()
    };
    let started = || Some(booted()? + number(22)? / clock_ticks_per_second() as f64);
    let most = getrlimit(Resource::Nofile).current.map(|it| it as f64);
    [
        ("process_open_fds", "Open file descriptors.", open()),
        ("process_max_fds", "Most file descriptors that may be open.", most),
        ("process_virtual_memory_bytes", "Virtual memory, in bytes.", number(23)),
        (
            "process_resident_memory_bytes",
            "Memory in use, in bytes.",
            number(24).map(|it| it * page_size() as f64),
        ),
        ("process_start_time_seconds", "When the process started, in seconds since 1970.", started()),
        ("process_threads", "Threads of the process.", number(20)),
    ]
    .into_iter()
    .filter_map(|(name, help, value)| Some((name, help, value?)))
    .collect()
}

/// `/proc/self/stat`, from its third field on: the second is the name of the program, which may hold anything.
struct Stat(String);

impl Stat {
    fn read() -> Option<Self> {
        let all = read_to_string("/proc/self/stat").ok()?;
        Some(Self(all.rsplit_once(") ")?.1.to_owned()))
    }

    /// The field with this number in proc(5), which counts from one.
    fn number(&self, field: usize) -> Option<f64> {
        self.0.split(' ').nth(field.checked_sub(3)?)?.trim().parse().ok()
    }
}
