//! The protocol's promises, in virtual time. A failing assertion prints the seed of its run.

use std::time::Duration;

use foca::{Codec as _, Header, Message};
use rand::RngExt;

use super::sim::{GOOD, Node, ROUGH, Sim, addr, member, ms, secs};
use super::*;

/// The promise to operators: a dead node is out of every view after this.
const GONE_WITHIN: Duration = secs(5);
/// A ring that can talk agrees after this.
const AGREED_WITHIN: Duration = secs(30);

/// A node that knows only itself.
fn lone(me: &Member) -> Membership {
    let timing = Timing::default();
    let damping = Damping::new(timing.flap_half_life, 0.0, Duration::ZERO);
    Membership::new(me.clone(), &timing, damping, 1)
}

fn went_down(node: &Node) -> usize {
    node.events.iter().filter(|(_, event)| matches!(event, Event::Down(_))).count()
}

fn rejoined(node: &Node) -> usize {
    node.events.iter().filter(|(_, event)| matches!(event, Event::Rejoined(_))).count()
}

#[test]
fn nodes_join_through_one_seed() {
    for n in [1usize, 2, 3, 5, 10, 20, 50] {
        for seed in 0..if n < 50 { 3 } else { 1 } {
            let sim = Sim::ring(seed, n, GOOD);
            assert!(sim.now < secs(5), "seed {seed}: {n} nodes took {:?}", sim.now);
        }
    }
}

#[test]
fn a_killed_node_is_out_of_every_view_within_the_promise() {
    let mut worst = Duration::ZERO;
    for (n, runs) in [(2usize, 20u64), (3, 20), (5, 10), (10, 10), (20, 4), (50, 1)] {
        for seed in 0..runs {
            let mut sim = Sim::ring(seed, n, GOOD);
            // Any phase of the probing.
            sim.run(ms(3000 + seed * 37));
            sim.kill(n - 1);
            let gone = sim.run_until(GONE_WITHIN, |sim| sim.forgotten((n - 1) as u16));
            let gone = gone.unwrap_or_else(|| panic!("seed {seed}: {n} nodes, still there after {GONE_WITHIN:?}"));
            assert!(sim.complete(), "seed {seed}: {n} nodes, and nobody else");
            worst = worst.max(gone);
        }
    }
    println!("slowest detection: {worst:?}");
}

#[test]
fn half_of_the_nodes_killed_at_once_are_all_noticed() {
    for seed in 0..5 {
        let mut sim = Sim::ring(seed, 10, GOOD);
        sim.run(secs(3));
        (5..10).for_each(|index| sim.kill(index));
        assert!(sim.run_until(secs(10), Sim::complete).is_some(), "seed {seed}");
    }
}

#[test]
fn a_quiet_ring_stays_as_it_is() {
    let mut sim = Sim::ring(1, 10, GOOD);
    sim.run(secs(3));
    sim.nodes.iter_mut().for_each(|node| node.events.clear());
    sim.run(secs(120));
    assert!(sim.nodes.iter().all(|node| node.events.is_empty()));
    assert!(sim.complete());
}

#[test]
fn a_restarted_node_replaces_its_former_life() {
    for seed in 0..10 {
        for new_addr in [addr(3), addr(100)] {
            let mut sim = Sim::ring(seed, 5, GOOD);
            sim.run(secs(2));
            sim.kill(3);
            sim.run(ms(seed * 30));
            sim.start(3, new_addr, 2, &[addr(0)]);
            assert!(sim.run_until(secs(3), Sim::complete).is_some(), "seed {seed}");
            sim.run(secs(10));
            assert!(sim.complete(), "seed {seed}");
            // Nobody saw it go: it was back before anyone missed it.
            assert!(sim.living().all(|node| went_down(node) == 0), "seed {seed}");
        }
    }
}

#[test]
fn a_node_that_was_declared_dead_comes_back_after_a_restart() {
    for seed in 0..5 {
        let mut sim = Sim::ring(seed, 4, GOOD);
        sim.kill(3);
        sim.run_until(GONE_WITHIN, |sim| sim.forgotten(3)).unwrap();
        sim.start(3, addr(3), 2, &[addr(0)]);
        assert!(sim.run_until(secs(3), Sim::complete).is_some(), "seed {seed}");
    }
}

#[test]
fn a_restart_with_a_clock_that_went_back_still_joins() {
    for (seed, dead_first) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut sim = Sim::new(seed, GOOD);
        for id in 0..4 {
            sim.start(id, addr(id), 1_800_000_000_000, &[addr(0)]);
        }
        sim.run_until(secs(10), Sim::complete).unwrap();
        sim.kill(3);
        if dead_first {
            sim.run_until(GONE_WITHIN, |sim| sim.forgotten(3)).unwrap();
        }
        // A year earlier.
        sim.start(3, addr(3), 1_770_000_000_000, &[addr(0)]);
        assert!(sim.run_until(AGREED_WITHIN, Sim::complete).is_some(), "seed {seed}");
    }
}

#[test]
fn a_node_that_leaves_is_gone_at_once_and_stays_away() {
    for seed in 0..10 {
        let mut sim = Sim::ring(seed, 8, GOOD);
        sim.run(secs(2));
        let before = sim.now;
        sim.leave(5);
        sim.run_until(secs(2), |sim| sim.forgotten(5)).unwrap_or_else(|| panic!("seed {seed}"));
        assert!(sim.now - before < secs(1), "seed {seed}: took {:?}", sim.now - before);
        sim.run(secs(20));
        assert!(sim.complete(), "seed {seed}");
        assert_eq!(rejoined(&sim.nodes[5]), 0, "seed {seed}");
        assert!(sim.living().all(|node| went_down(node) == 1 && rejoined(node) == 0), "seed {seed}");
    }
}

#[test]
fn a_node_that_will_leave_says_so_and_nobody_takes_it_for_dead_or_new() {
    for (n, seed) in [(2, 0), (8, 1), (8, 2), (30, 3)] {
        let mut sim = Sim::ring(seed, n, GOOD);
        sim.run(secs(2));
        sim.nodes.iter_mut().for_each(|node| node.events.clear());
        let everyone_knows = |sim: &Sim| {
            let leaving = |node: &Node| node.view.iter().filter(|member| member.leaving).count();
            sim.living().all(|node| leaving(node) == 1 && node.view.len() == n)
        };
        sim.set_leaving(1);
        let took = sim.run_until(secs(5), everyone_knows).unwrap_or_else(|| panic!("seed {seed}: {n} nodes"));
        println!("seed {seed}: all of {n} nodes knew after {took:?}");
        sim.run(secs(30));
        assert!(everyone_knows(&sim), "seed {seed}");
        for (index, node) in sim.nodes.iter().enumerate() {
            let changed = |event: &Event| matches!(event, Event::Changed(member) if member.leaving);
            let expected = usize::from(index != 1);
            assert_eq!(node.events.len(), expected, "seed {seed}: {:?}", node.events);
            assert!(node.events.iter().all(|(_, event)| changed(event)), "seed {seed}: {:?}", node.events);
        }
        sim.leave(1);
        sim.run_until(secs(2), Sim::complete).unwrap_or_else(|| panic!("seed {seed}"));
    }
}

#[test]
fn a_node_that_was_declared_dead_while_it_leaves_comes_back_leaving() {
    let mut sim = Sim::ring(4, 5, GOOD);
    sim.set_leaving(2);
    sim.run(secs(2));
    sim.stall(2, secs(10));
    sim.run_until(GONE_WITHIN, |sim| sim.nodes[0].view.len() == 4).unwrap();
    sim.run(secs(10));
    assert!(sim.run_until(AGREED_WITHIN, Sim::complete).is_some());
    assert!(sim.nodes[0].view[2].leaving);
}

#[test]
fn a_node_whose_seed_is_dead_works_alone_and_joins_when_it_comes() {
    let mut sim = Sim::new(5, GOOD);
    sim.start(1, addr(1), 1, &[addr(0)]);
    sim.run(secs(60));
    assert_eq!(sim.nodes[0].view.len(), 1);
    sim.start(0, addr(0), 1, &[]);
    assert!(sim.run_until(secs(10), Sim::complete).is_some());
}

#[test]
fn halves_of_a_cut_ring_carry_on_and_meet_again_through_a_seed() {
    for seed in 0..4 {
        let mut sim = Sim::ring(seed, 10, GOOD);
        sim.run(secs(2));
        sim.cut(&[5, 6, 7, 8, 9]);
        let split = |sim: &Sim| sim.living().all(|node| node.view.len() == 5);
        sim.run_until(secs(15), split).unwrap_or_else(|| panic!("seed {seed}: halves did not settle"));
        sim.run(secs(seed * 20));
        assert!(split(&sim), "seed {seed}");
        sim.heal();
        let met = sim.run_until(AGREED_WITHIN, Sim::complete);
        println!("seed {seed}: met after {:?}", met.unwrap_or_else(|| panic!("seed {seed}: halves did not meet")));
        sim.run(secs(20));
        assert!(sim.complete(), "seed {seed}: and stay together");
    }
}

#[test]
fn halves_without_any_seed_meet_by_trying_the_dead() {
    for seed in 0..3 {
        let mut sim = Sim::ring(seed, 6, GOOD);
        sim.nodes.iter_mut().for_each(Node::forget_seeds);
        sim.cut(&[3, 4, 5]);
        sim.run_until(secs(15), |sim| sim.living().all(|node| node.view.len() == 3)).unwrap();
        sim.run(secs(30));
        sim.heal();
        assert!(sim.run_until(secs(60), Sim::complete).is_some(), "seed {seed}");
    }
}

#[test]
fn halves_of_which_one_started_again_meet_by_what_it_remembers() {
    for seed in 0..3 {
        let mut sim = Sim::ring(seed, 6, GOOD);
        sim.nodes.iter_mut().for_each(Node::forget_seeds);
        sim.cut(&[3, 4, 5]);
        sim.run_until(secs(15), |sim| sim.living().all(|node| node.view.len() == 3)).unwrap();
        let (three, four) = (3, 4);
        // One at a time: what one knows of its own half it learns from the others.
        for index in [three, four, 5] {
            sim.kill(index);
            sim.run(secs(8));
            sim.restart(index);
            sim.run(secs(8));
        }
        assert!(sim.living().all(|node| node.view.len() == 3), "seed {seed}");
        // The other half has forgotten them, so it is on these to ask.
        for index in 0..3 {
            sim.kill(index);
            sim.restart(index);
            sim.run(secs(1));
        }
        sim.run(secs(20));
        sim.heal();
        assert!(sim.run_until(secs(60), Sim::complete).is_some(), "seed {seed}");
    }
}

#[test]
fn a_node_that_restarts_again_and_again_owns_nothing_until_it_is_calm() {
    for seed in 0..3 {
        let mut sim = Sim::ring(seed, 5, GOOD);
        let mut index = 4;
        let mut damped_after = None;
        for restart in 1..=8 {
            sim.kill(index);
            sim.run(secs(5));
            index = sim.restart(index);
            sim.run(secs(5));
            assert!(sim.complete(), "seed {seed}: damped or not, it is a member");
            let damped = sim.nodes[index].membership.me().damped;
            assert!(sim.living().all(|node| node.owners() == if damped { 4 } else { 5 }), "seed {seed}");
            if damped {
                damped_after.get_or_insert(restart);
            } else {
                assert_eq!(damped_after, None, "seed {seed}: once damped it stays so while it goes on");
            }
        }
        assert!((5..=7).contains(&damped_after.expect("damped")), "seed {seed}: {damped_after:?}");
        let calm = sim.run_until(secs(600), |sim| sim.living().all(|node| node.owners() == 5));
        let calm = calm.unwrap_or_else(|| panic!("seed {seed}: it never owned blocks again"));
        assert!((60..400).contains(&calm.as_secs()), "seed {seed}: {calm:?}");
        assert!(sim.run_until(secs(5), Sim::complete).is_some(), "seed {seed}");
        println!("seed {seed}: damped at restart {damped_after:?}, calm after {calm:?}");
    }
}

#[test]
fn a_node_with_a_flapping_link_is_damped_in_every_view_alike() {
    for seed in 0..3 {
        let mut sim = Sim::ring(seed, 6, GOOD);
        for _ in 0..8 {
            sim.cut(&[5]);
            sim.run_until(secs(15), |sim| sim.nodes[0].view.len() == 5).unwrap();
            sim.heal();
            assert!(sim.run_until(AGREED_WITHIN, Sim::complete).is_some(), "seed {seed}");
        }
        assert!(sim.nodes[5].membership.me().damped, "seed {seed}");
        assert!(sim.living().all(|node| node.owners() == 5), "seed {seed}");
        // What each did about the others' flaps is its own business; the steady ones are not blamed.
        let blamed = sim.nodes[..5].iter().filter(|node| node.membership.me().damped).count();
        assert_eq!(blamed, 0, "seed {seed}");
        assert!(sim.run_until(secs(600), |sim| sim.living().all(|node| node.owners() == 6)).is_some(), "seed {seed}");
    }
}

#[test]
fn halves_that_part_again_and_again_do_not_empty_the_ring() {
    for seed in 0..2 {
        let mut sim = Sim::ring(seed, 6, GOOD);
        for round in 0..8 {
            sim.cut(&[3, 4, 5]);
            sim.run_until(secs(15), |sim| sim.living().all(|node| node.view.len() == 3)).unwrap();
            sim.heal();
            assert!(sim.run_until(secs(60), Sim::complete).is_some(), "seed {seed}: round {round}");
            let owners: Vec<usize> = sim.living().map(Node::owners).collect();
            assert!(owners.iter().all(|n| *n == owners[0] && *n >= 4), "seed {seed}: round {round}: {owners:?}");
        }
    }
}

/// Everything at once, at random; then peace, and every view must come to the same.
#[test]
fn views_come_to_the_same_after_any_trouble() {
    for seed in 0..6 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut sim = Sim::ring(seed, 12, GOOD);
        let mut current: Vec<usize> = (0..12).collect();
        for _ in 0..40 {
            let slot = rng.random_range(0..current.len());
            let index = current[slot];
            match rng.random_range(0..7) {
                0 => sim.kill(index),
                1 | 2 if !sim.is_alive(index) => current[slot] = sim.restart(index),
                3 => sim.stall(index, ms(rng.random_range(100..8000))),
                4 => sim.cut(&[index, current[(slot + 1) % current.len()]]),
                5 => sim.heal(),
                6 if sim.is_alive(index) => sim.set_leaving(index),
                _ => sim.wires = if rng.random_bool(0.5) { ROUGH } else { GOOD },
            }
            sim.run(ms(rng.random_range(50..4000)));
        }
        sim.heal();
        sim.wires = GOOD;
        assert!(sim.living().count() > 0, "seed {seed}");
        let agreed = sim.run_until(secs(60), Sim::complete);
        println!("seed {seed}: {} nodes agree after {:?}", sim.living().count(), agreed);
        assert!(agreed.is_some(), "seed {seed}");
    }
}

/// What membership costs a ring at rest, and how fast a large one notices a death.
fn large_ring(n: usize) {
    let start = clock();
    let mut sim = Sim::ring(1, n, GOOD);
    let met = sim.now;
    // Everybody asks for a full feed once more two seconds after it joined.
    sim.run(secs(5));
    let before = sim.gossip_bytes;
    sim.run(secs(10));
    let rest = (sim.gossip_bytes - before) as f64 / 10.0 / n as f64;
    assert!(sim.complete());
    sim.kill(n - 1);
    let gone = sim.run_until(GONE_WITHIN, |sim| sim.forgotten((n - 1) as u16));
    println!(
        "{n} nodes: all met after {met:?}; at rest {rest:.0} bytes of gossip a node and second; a killed node was out of every view \
         after {gone:?}; simulated in {:?}",
        clock() - start
    );
    assert!(gone.is_some());
}

fn clock() -> std::time::Instant {
    shoal_runtime::clock::now()
}

#[test]
fn a_hundred_nodes_meet_cheaply_and_notice_a_death() {
    large_ring(100);
}

#[test]
#[ignore = "minutes without optimisation; run with --release"]
fn a_thousand_nodes_meet_cheaply_and_notice_a_death() {
    large_ring(1000);
}

#[test]
fn one_node_cut_off_comes_back() {
    for seed in 0..5 {
        let mut sim = Sim::ring(seed, 5, GOOD);
        sim.cut(&[4]);
        sim.run_until(secs(10), |sim| sim.nodes[4].view.len() == 1 && sim.nodes[0].view.len() == 4).unwrap();
        sim.heal();
        assert!(sim.run_until(AGREED_WITHIN, Sim::complete).is_some(), "seed {seed}");
    }
}

#[test]
fn lost_doubled_and_overtaking_packets_do_not_keep_a_ring_from_forming() {
    for (n, seed) in [(3, 0), (10, 1), (10, 2), (20, 3)] {
        let mut sim = Sim::ring(seed, n, ROUGH);
        sim.run(secs(60));
        let back = sim.run_until(AGREED_WITHIN, Sim::complete);
        assert!(back.is_some(), "seed {seed}: {n} nodes do not stay together");
        sim.kill(n - 1);
        let gone = sim.run_until(2 * GONE_WITHIN, |sim| sim.forgotten((n - 1) as u16));
        assert!(gone.is_some(), "seed {seed}: {n} nodes did not notice the death");
    }
}

#[test]
fn a_stalled_node_does_not_take_its_own_sleep_for_the_death_of_others() {
    for seed in 0..10 {
        let mut sim = Sim::ring(seed, 5, GOOD);
        sim.run(secs(3));
        sim.stall(2, secs(20));
        sim.run_until(GONE_WITHIN, |sim| sim.nodes[0].view.len() == 4).unwrap_or_else(|| panic!("seed {seed}"));
        sim.run(secs(20));
        assert!(sim.run_until(AGREED_WITHIN, Sim::complete).is_some(), "seed {seed}");
        assert_eq!(went_down(&sim.nodes[2]), 0, "seed {seed}: the sleeper declared someone dead");
        assert!(rejoined(&sim.nodes[2]) >= 1, "seed {seed}: and had to rejoin itself");
        assert!([0, 1, 3, 4].iter().all(|&index| went_down(&sim.nodes[index]) == 1), "seed {seed}");
    }
}

#[test]
fn a_suspicion_does_not_run_out_while_the_one_who_holds_it_sleeps() {
    let mut held = 0;
    for seed in 0..20 {
        let mut sim = Sim::ring(seed, 2, GOOD);
        sim.run(secs(2));
        sim.stall(1, ms(900));
        let suspects =
            |sim: &Sim| sim.nodes[0].membership.foca.iter_members().any(|peer| peer.state() == State::Suspect);
        for _ in 0..20 {
            sim.run(ms(50));
            if suspects(&sim) {
                held += 1;
                sim.stall_deaf(0, secs(10));
                break;
            }
        }
        sim.run(secs(20));
        assert!(sim.run_until(AGREED_WITHIN, Sim::complete).is_some(), "seed {seed}");
        assert_eq!(went_down(&sim.nodes[0]), 0, "seed {seed}: the sleeper declared its healthy peer dead");
    }
    assert!(held >= 10, "the runs are meant to contain suspicions, only {held} did");
}

/// foca 2.0.0 sends `TurnUndead` when a suspicion runs out even if it was refuted; see the module's comment.
#[test]
fn a_refuted_suspicion_costs_the_suspect_nothing() {
    let mut suspicions = 0;
    for seed in 0..20 {
        let mut sim = Sim::ring(seed, 2, GOOD);
        sim.run(secs(2));
        sim.stall(1, ms(900));
        let mut suspected = false;
        for _ in 0..200 {
            sim.run(ms(50));
            suspected |= sim.nodes[0].membership.foca.iter_members().any(|peer| peer.state() == State::Suspect);
        }
        suspicions += u32::from(suspected);
        assert!(sim.nodes.iter().all(|node| went_down(node) == 0 && rejoined(node) == 0), "seed {seed}");
        assert_eq!(sim.nodes[1].membership.me().incarnation, 1, "seed {seed}: it gave its life up");
    }
    assert!(suspicions >= 10, "the runs are meant to contain suspicions, only {suspicions} did");
}

/// foca 2.0.0 stops probing when a `TurnUndead` changes its identity; see the module's comment.
#[test]
fn a_node_probes_its_peers_after_a_change_of_identity() {
    let (me, peer) = (member(1, addr(1), 1), member(2, addr(2), 1));
    let mut membership = lone(&me);
    membership.meet(Duration::ZERO, &[Arc::new(peer.clone())]);
    assert_eq!(membership.members().len(), 2);
    let undead = packet(&peer, &me, Message::TurnUndead);
    membership.receive(ms(10), &undead);
    let mut now = ms(10);
    while let Some(next) = membership.next_deadline().filter(|&next| next < secs(10)) {
        now = now.max(next);
        membership.tick(now);
        while membership.poll_send().is_some() {}
    }
    let events = membership.take_events();
    assert!(events.contains(&Event::Rejoined(1)), "{events:?}");
    assert_eq!(membership.members().len(), 1, "nobody ever answered, so the peer is dead: {events:?}");
}

#[test]
fn news_of_its_own_death_does_not_bring_a_node_back_that_left() {
    let (me, peer) = (member(1, addr(1), 1), member(2, addr(2), 1));
    let mut membership = lone(&me);
    membership.meet(Duration::ZERO, &[Arc::new(peer.clone())]);
    membership.leave(ms(5));
    while membership.poll_send().is_some() {}
    membership.receive(ms(10), &packet(&peer, &me, Message::TurnUndead));
    membership.tick(secs(10));
    assert_eq!(membership.next_deadline(), None);
    assert!(membership.poll_send().is_none());
    assert!(!membership.members().contains(&Arc::new(me)));
}

#[test]
fn two_processes_with_one_id_are_reported_and_do_not_outbid_each_other_without_end() {
    let mut sim = Sim::new(7, GOOD);
    for id in 0..3 {
        sim.start(id, addr(id), 1, &[addr(0)]);
    }
    sim.run_until(secs(10), Sim::complete).unwrap();
    sim.start(2, addr(100), 2, &[addr(0)]);
    sim.run(secs(60));
    let lives = rejoined(&sim.nodes[2]) + rejoined(&sim.nodes[3]);
    assert!((6..60).contains(&lives), "{lives} lives in a minute");
    let in_a_row =
        sim.nodes[2].events.iter().map(|(_, event)| if let Event::Rejoined(n) = event { *n } else { 0 }).max();
    assert!(in_a_row >= Some(5), "both fought on, so an operator is told: {in_a_row:?}");
}

#[test]
fn bytes_that_are_no_packet_change_nothing() {
    let mut sim = Sim::ring(9, 3, GOOD);
    sim.run(secs(2));
    let mut rng = SmallRng::seed_from_u64(9);
    let good = packet(&member(1, addr(1), 1), &member(0, addr(0), 1), Message::Gossip);
    let unchanged = sim.nodes[0].view.clone();
    for round in 0..2000 {
        let mut bytes = good.to_vec();
        match round % 3 {
            0 => bytes.truncate(rng.random_range(0..bytes.len())),
            1 => bytes = (0..rng.random_range(0..300)).map(|_| rng.random()).collect(),
            _ => bytes[0] = rng.random_range(GOSSIP_FORMAT + 1..=255),
        }
        sim.inject(0, bytes.into());
    }
    sim.run(secs(5));
    assert!(sim.nodes[0].membership.refused() > 1000);
    assert_eq!(sim.nodes[0].view, unchanged);
    assert!(sim.complete());
}

#[test]
fn members_out_of_bounds_are_refused() {
    let mut membership = lone(&member(1, addr(1), 1));
    let bad = Member { weight: 0, ..member(2, addr(2), 1) };
    membership.receive(Duration::ZERO, &packet(&bad, &member(1, addr(1), 1), Message::Announce));
    assert_eq!(membership.refused(), 1);
    assert_eq!(membership.members().len(), 1);
}

/// A packet without news, as the protocol would send it.
fn packet(from: &Member, to: &Member, message: Message<Identity>) -> Bytes {
    let identity = |member: &Member| Identity(Arc::new(member.clone()));
    let header = Header { src: identity(from), src_incarnation: 0, dst: identity(to), message };
    let mut bytes = vec![GOSSIP_FORMAT];
    Codec.encode_header(&header, &mut bytes).unwrap();
    bytes.into()
}

/// Gossip is a sent shape: the same packet from the same members, for ever.
#[test]
fn packets_are_pinned() {
    let bytes = packet(&member(1, addr(1), 300), &member(2, addr(2), 5), Message::Ping(7));
    let mut golden = vec![GOSSIP_FORMAT];
    golden.extend_from_slice(&[1; 16]);
    golden.extend_from_slice(
        b"\x06node-1\x00\x0a\x00\x00\x01\xd9\x36\x64\x80\x80\x80\x80\x80\x20\x00\xac\x02\xac\x02\x00\x00",
    );
    golden.push(0);
    golden.extend_from_slice(&[2; 16]);
    golden.extend_from_slice(b"\x06node-2\x00\x0a\x00\x00\x01\xda\x36\x64\x80\x80\x80\x80\x80\x20\x00\x05\x05\x00\x00");
    golden.extend_from_slice(&[0, 7]);
    assert_eq!(bytes, golden);
}
