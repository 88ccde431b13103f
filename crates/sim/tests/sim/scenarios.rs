//! What is simulated.

use std::time::Duration;

use crate::world::{Bug, Fault, Outcome, Size, World, simulate};

/// A number from the environment.
fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to run: the one that was asked for, or `all`.
pub fn seeds(all: &[u64]) -> Vec<u64> {
    env("SHOAL_SIM_SEED").map_or_else(|| all.to_vec(), |seed| vec![seed])
}

pub fn nodes(usually: u32) -> u32 {
    env("SHOAL_SIM_NODES").map_or(usually, |nodes| nodes as u32)
}

/// One to three faults within three seconds, some more time, and then peace.
pub async fn storm(world: &mut World) {
    for _ in 0..1 + world.rng.below(3) {
        let fault = *world.rng.pick(&Fault::ALL);
        world.strike(fault).await;
        let gap = Duration::from_millis(world.rng.below(3000));
        world.rest(gap).await;
    }
    let rest = Duration::from_secs(2 + world.rng.below(13));
    world.rest(rest).await;
    world.settle().await;
}

fn storms(seed: u64, size: Size, storms: u32) -> Outcome {
    simulate("survives_storms", seed, size, async |world| {
        world.settle().await;
        for _ in 0..storms {
            storm(world).await;
        }
    })
}

/// Two tests, so that they run side by side.
fn survives_storms(usually: u64) {
    let size = Size::new(nodes(100), 5, 1000);
    for seed in seeds(&[usually]) {
        storms(seed, size, 2).check("survives_storms", seed, size);
    }
}

#[test]
fn a_ring_survives_storms() {
    survives_storms(1);
}

#[test]
fn a_ring_survives_other_storms() {
    survives_storms(2);
}

/// Seeds that failed once, each by a mistake that is mended.
#[test]
fn a_small_ring_survives_the_storms_that_broke_it_once() {
    let size = Size::new(nodes(12), 5, 1000);
    for seed in seeds(&[408]) {
        storms(seed, size, 2).check("survives_the_storms", seed, size);
    }
}

#[test]
fn a_killed_node_is_noticed_in_time() {
    let size = Size::new(nodes(20), 2, 200);
    for seed in seeds(&[1, 2]) {
        let outcome = simulate("is_noticed", seed, size, async |world| {
            for _ in 0..3 {
                let number = world.pick();
                world.ledger.storm();
                world.kill(number);
                world.notice(number).await;
                world.settle().await;
            }
        });
        outcome.check("is_noticed", seed, size);
    }
}

#[test]
fn a_seed_is_a_run() {
    let size = Size::new(12, 3, 200);
    let run = |seed| storms(seed, size, 1);
    let first = run(5);
    assert_eq!(first, run(5));
    assert_ne!(first.trace, run(6).trace);
}

/// A small world with a bug in it: half of its nodes are killed at once, in a calm before and after. Gives what was found.
fn found(bug: Bug) -> Vec<String> {
    let size = Size { bug: Some(bug), ..Size::new(6, 4, 100) };
    let outcome = simulate("bugs_that", 3, size, async |world| {
        world.settle().await;
        world.ledger.storm();
        let dead = [world.pick_and_kill(), world.pick_and_kill(), world.pick_and_kill()];
        for number in dead {
            world.notice(number).await;
        }
        if bug != Bug::ImmortalNodes {
            world.settle().await;
        }
    });
    outcome.violations
}

#[test]
fn bugs_that_are_put_in_are_found() {
    for (bug, sign) in [
        (Bug::NoWayToTheOrigin, "could not read block"),
        (Bug::NoSingleFlight, "it is asking already"),
        (Bug::WrongBytes, "read wrong bytes"),
        (Bug::ImmortalNodes, "died"),
    ] {
        let found = found(bug);
        assert!(found.iter().any(|violation| violation.contains(sign)), "{bug:?}: {found:?}");
        println!("{bug:?}: {}", found[0]);
    }
}
