//! The crate beside its floors: what the same work costs by hand, with ureq and serde_json alone, in the same run.
//!
//! ```sh
//! cargo bench --bench floors                     # time and allocations, in about 20 s
//! cargo bench --bench floors -- --instructions   # instructions, by valgrind's callgrind, in less than a minute
//! ```
//!
//! The server is a process of its own on this machine, so that only the client is measured. The two sides take turns,
//! so that a busy machine hits both alike, and a ratio is the median of the rounds'. A call over loopback is mostly
//! waiting, so that time says little of it; instructions hardly depend on what else runs. Allocations are counted in
//! all rounds, on both sides alike. An `event` is only split off a stream in memory; a `chunk` came over HTTP, and was read.
//!
//! Criterion, divan and iai-callgrind measure one side after the other, in time or in instructions. Here a figure is a
//! ratio of two sides in the same round, and the same work counts time, allocations and instructions.

mod by_crate;
mod by_hand;
mod events;
mod server;

// Private to the crate, and as they are there.
#[allow(unused_imports)]
#[path = "../../src/bytes.rs"]
mod bytes;
#[allow(dead_code, unused_imports)]
#[path = "../../src/sse.rs"]
mod sse;

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Does a work so often, with the server on this port, and returns how much came of it: by both ways the same.
type Way = fn(u16, u32) -> Outcome<usize>;

/// What is measured, how often in a round, by hand and by the crate.
const WORKS: [(&str, u32, Way, Way); 6] = [
    ("call", 1000, by_hand::call, by_crate::call),
    (
        "chunk",
        5000,
        |port, chunks| by_hand::stream(MODEL, port, chunks),
        |port, chunks| by_crate::stream(MODEL, port, chunks),
    ),
    (
        "chunk, padded",
        5000,
        |port, chunks| by_hand::stream(PADDED, port, chunks),
        |port, chunks| by_crate::stream(PADDED, port, chunks),
    ),
    ("event", 5000, by_hand::events, by_crate::events),
    ("decode", 5000, by_hand::decode, by_crate::decode),
    ("encode", 5000, by_hand::encode, by_crate::encode),
];

const MODEL: &str = "google/gemma-2-27b-it";
/// Its events differ in more than their text, as OpenAI's do, which are padded to hide their length.
const PADDED: &str = "padded";
const QUESTION: &str = "What is the capital of France?";
const ANSWER: &str = r#"{"id":"chatcmpl-7Hq2ZkP0vY","object":"chat.completion","created":1763798400,"model":"google/gemma-2-27b-it","choices":[{"index":0,"message":{"role":"assistant","content":"Paris. The kings made it their seat in the tenth century, left it for Versailles in the seventeenth, and were brought back by the people of Paris in October 1789; since then the government has left the city only in times of war.","refusal":null},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":14,"completion_tokens":52,"total_tokens":66,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default","system_fingerprint":"fp_5b0c3d","meta":{"usage":{"usd_spent":0.00008}}}"#;

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--serve"] => return server::serve(),
        ["--once", port, work, way, times] => {
            return once(port.parse()?, work.parse()?, way, times.parse()?);
        }
        _ => {}
    }
    let mut server = Command::new(env::current_exe()?)
        .arg("--serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    let port = port.trim();
    if args.contains(&"--instructions") {
        instructions(port)?;
    } else {
        // `cargo test --benches` gives no `--bench`, and only wants to see it run.
        let seconds = if args.contains(&"--bench") { 4 } else { 0 };
        time(port.parse()?, Duration::from_secs(seconds))?;
    }
    drop(server.stdin.take());
    server.wait()?;
    Ok(())
}

struct Counting;

static ALLOCATIONS: AtomicU32 = AtomicU32::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: it hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What each took in a round, in microseconds and in allocations, and how much came.
fn round(way: Way, port: u16, times: u32) -> Outcome<(f64, f64, usize)> {
    let (before, begun) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    let came = way(port, times)?;
    let micros = begun.elapsed().as_secs_f64() * 1e6 / f64::from(times);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed).wrapping_sub(before);
    Ok((micros, f64::from(allocations) / f64::from(times), came))
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures each work for so long, and at least for one round.
fn time(port: u16, span: Duration) -> Outcome<()> {
    println!("each           floor, µs  aimlapi, µs  ratio  allocations, floor  aimlapi");
    for (name, times, by_hand, by_crate) in WORKS {
        let (mut floors, mut owns, mut ratios) = (vec![], vec![], vec![]);
        let begun = Instant::now();
        let (before, after) = loop {
            let (floor, before, expected) = round(by_hand, port, times)?;
            let (own, after, came) = round(by_crate, port, times)?;
            if came != expected {
                return Err(format!("{name}: {came} came, and {expected} by hand").into());
            }
            floors.push(floor);
            owns.push(own);
            ratios.push(own / floor);
            if begun.elapsed() >= span {
                break (before, after);
            }
        };
        let [floor, own, ratio] = [&mut floors, &mut owns, &mut ratios].map(|all| median(all));
        println!("{name:<13}{floor:>11.2}{own:>13.2}{ratio:>7.2}{before:>20.2}{after:>9.2}");
    }
    Ok(())
}

fn instructions(port: &str) -> Outcome<()> {
    println!("each           floor, instructions  aimlapi  ratio");
    for (work, (name, ..)) in WORKS.iter().enumerate() {
        let (floor, own) = (each(port, work, "by hand")?, each(port, work, "by crate")?);
        println!("{name:<13}{floor:>21.0}{own:>9.0}{:>7.2}", own / floor);
    }
    Ok(())
}

/// What 1200 take more than 200, so that what comes once does not count.
fn each(port: &str, work: usize, way: &str) -> Outcome<f64> {
    let count = |times| -> Outcome<f64> {
        let run = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe()?)
            .args(["--once", port, &work.to_string(), way, times])
            .output()
            .map_err(|e| format!("no instructions can be counted without valgrind: {e}"))?;
        let said = String::from_utf8_lossy(&run.stderr);
        let total = said.lines().find_map(|it| it.split_once("Collected : "));
        let (_, total) = total.ok_or_else(|| format!("valgrind failed: {said}"))?;
        Ok(total.parse()?)
    };
    Ok((count("1200")? - count("200")?) / 1000.0)
}

/// One way of one work, for who counts from outside.
fn once(port: u16, work: usize, way: &str, times: u32) -> Outcome<()> {
    let (.., by_hand, by_crate) = WORKS.get(work).ok_or("no such work")?;
    let way = if way == "by hand" { by_hand } else { by_crate };
    way(port, times).map(drop)
}
