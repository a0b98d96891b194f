#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use super::*;

const START: u64 = 1_700_000_000;

/// `s` seconds after the session began, with both clocks in step.
fn at(s: u64) -> Now {
    clocks(s, s)
}

fn clocks(wall: u64, elapsed: u64) -> Now {
    Now { wall: secs(START + wall), elapsed: secs(elapsed) }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn until(s: u64) -> UnixTime {
    UnixTime(START + s)
}

fn timing() -> Timing {
    Timing {
        warn_before: vec![secs(300), secs(60)],
        look_before: None,
        agent_timeout: secs(3),
        grace: secs(2),
        end_after: Duration::ZERO,
        at_end: AtEnd::End,
    }
}

/// A session of an hour.
fn hour() -> Session {
    Session::new(at(0), Some(until(3600)), &timing())
}

/// An hour's session whose agent was looked at in vain and which was warned twice; 1 s before its end.
fn about_to_end() -> Session {
    let mut session = hour();
    for s in [3300, 3540, 3599] {
        assert_eq!(session.on(at(s), Event::Time), [Action::Look]);
        session.on(at(s), Event::NotRenewed);
    }
    session
}

#[test]
fn nothing_happens_before_the_first_warning() {
    let mut session = hour();
    assert_eq!(session.wake_in(at(0)), Some(secs(3300)));
    assert!(session.on(at(3299), Event::Time).is_empty());
}

#[test]
fn looks_before_it_warns() {
    let mut session = hour();
    assert_eq!(session.on(at(3300), Event::Time), [Action::Look]);
    assert!(session.on(at(3300), Event::Time).is_empty(), "one look at a time");
    assert_eq!(session.on(at(3301), Event::NotRenewed), [Action::Warn { left: secs(299) }]);
    assert_eq!(session.wake_in(at(3301)), Some(secs(239)), "the next warning is also where the window opens");
}

#[test]
fn user_with_a_renewed_certificate_sees_no_warning() {
    let mut session = hour();
    assert_eq!(session.on(at(3300), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(3300), Event::Renewed { valid_before: until(7200) }), [Action::Prolong]);
    assert!(session.on(at(3700), Event::Time).is_empty());
    assert_eq!(session.wake_in(at(3700)), Some(secs(3200)));
}

#[test]
fn look_that_waits_for_its_turn_does_not_delay_the_warning() {
    let mut session = hour();
    assert_eq!(session.on(at(3300), Event::Time), [Action::Look]);
    assert_eq!(session.wake_in(at(3300)), Some(secs(3)), "as long as an agent may take");
    assert_eq!(session.on(at(3303), Event::Time), [Action::Warn { left: secs(297) }]);
    assert_eq!(session.wake_in(at(3303)), Some(secs(237)));
    assert!(session.on(at(3310), Event::NotRenewed).is_empty(), "warned once");
    // Of a short one, with time to read it.
    let mut session = Session::new(at(0), Some(until(10)), &timing());
    assert_eq!(session.on(at(7), Event::Time), [Action::Look]);
    let warned = Now { wall: secs(START) + Duration::from_millis(8500), elapsed: Duration::from_millis(8500) };
    assert_eq!(session.wake_in(at(7)), Some(Duration::from_millis(1500)));
    assert_eq!(session.on(warned, Event::Time), [Action::Warn { left: Duration::from_millis(1500) }]);
}

#[test]
fn asks_for_its_end_until_that_has_come() {
    let mut session = hour();
    assert_eq!(session.asks_for_its_end_in(at(3000)), Some(secs(600)));
    session = Session::new(at(0), Some(until(0)), &timing());
    session.on(at(0), Event::Time);
    assert_eq!(session.asks_for_its_end_in(at(0)), Some(Duration::ZERO), "its last look");
    for session in [frozen(), let_go_on()] {
        assert_eq!(session.asks_for_its_end_in(at(3600)), None);
    }
}

#[test]
fn asks_several_times_in_the_last_stretch_and_faster_towards_the_end() {
    let mut session = hour();
    let mut looks = Vec::new();
    let mut now = 3540;
    while now < 3600 {
        if session.on(at(now), Event::Time).contains(&Action::Look) {
            looks.push(now);
            session.on(at(now), Event::NotRenewed);
        }
        now += session.wake_in(at(now)).unwrap().as_secs().max(1);
    }
    assert!(looks.len() >= 8, "{looks:?}");
    assert!(looks.windows(2).all(|w| w[1] - w[0] <= 10), "{looks:?}");
    assert!(*looks.last().unwrap() >= 3598, "{looks:?}");
}

#[test]
fn ends_at_the_second_in_which_the_certificate_is_no_longer_valid() {
    let mut session = about_to_end();
    assert!(!session.on(at(3599), Event::Time).contains(&Action::Announce(Cause::Expired)));
    assert_eq!(session.wake_in(at(3599)), Some(secs(1)));
    assert_eq!(session.on(at(3600), Event::Time), [Action::Announce(Cause::Expired)]);
}

/// [`hour`] that goes on for ten minutes after its certificate's end.
fn hour_and_ten_minutes(at_end: AtEnd) -> Session {
    Session::new(at(0), Some(until(3600)), &Timing { end_after: secs(600), at_end, ..timing() })
}

#[test]
fn where_it_ends_after_its_certificate_it_is_asked_before_both_ends_and_warned_before_its_own() {
    let mut session = hour_and_ten_minutes(AtEnd::End);
    assert_eq!(session.wake_in(at(0)), Some(secs(3540)), "a minute before the certificate's end");
    let (mut now, mut warned, mut last_look) = (3540, Vec::new(), 0);
    while now < 4200 {
        if session.on(at(now), Event::Time).contains(&Action::Look) {
            last_look = now;
            for action in session.on(at(now), Event::NotRenewed) {
                let Action::Warn { left } = action else { panic!("{action:?} at {now}") };
                warned.push((now, left.as_secs()));
            }
        }
        now += session.wake_in(at(now)).unwrap().as_secs().max(1);
    }
    assert_eq!(warned, [(3900, 300), (4140, 60)]);
    assert!(last_look >= 4198, "{last_look}");
    assert_eq!(session.on(at(4200), Event::Time), [Action::Announce(Cause::Expired)]);
}

#[test]
fn newer_certificate_counts_until_the_sessions_own_end_and_prolongs_by_its_own() {
    for at_end in [AtEnd::End, AtEnd::Warn, AtEnd::Freeze] {
        let mut session = hour_and_ten_minutes(at_end);
        assert_eq!(session.on(at(4199), Event::Time), [Action::Look]);
        // One that ends before this session would, and later than its certificate did.
        assert_eq!(session.on(at(4199), Event::Renewed { valid_before: until(4202) }), [Action::Prolong]);
        assert!(!session.on(at(4801), Event::Time).contains(&Action::Announce(Cause::Expired)));
        session.on(at(4801), Event::NotRenewed);
        let end = session.on(at(4802), Event::Time);
        assert!(matches!(end[..], [Action::Announce(Cause::Expired) | Action::Overdue | Action::Freeze]), "{end:?}");
    }
    let mut session = hour_and_ten_minutes(AtEnd::End);
    session.on(at(4000), Event::Time);
    let same = session.on(at(4000), Event::Renewed { valid_before: until(3600) });
    assert_eq!(same, [Action::Warn { left: secs(200) }], "the same certificate is no newer one");
}

#[test]
fn refused_certificate_gets_no_time_after_its_end() {
    let cause = Cause::Refused(Refusal::Revoked);
    for moment in [10, 3600, 4100] {
        let mut session = hour_and_ten_minutes(AtEnd::End);
        assert_eq!(
            session.on(at(moment), Event::Refused(Refusal::Revoked)),
            [Action::Announce(cause.clone())],
            "{moment}"
        );
    }
}

#[test]
fn time_after_the_end_goes_by_both_clocks_and_is_not_given_anew_after_a_gap() {
    let mut session = hour_and_ten_minutes(AtEnd::End);
    session.on(at(4000), Event::Time);
    session.on(at(4000), Event::NotRenewed);
    assert_eq!(session.on(clocks(0, 4200), Event::Time), [Action::Announce(Cause::Expired)], "set back");
    let timing = Timing { end_after: secs(600), ..timing() };
    let mut session = Session::new(at(4100), Some(until(3600)), &timing);
    assert!(session.is_good(at(4199)) && !session.is_good(at(4200)));
    assert_eq!(session.on(at(4100), Event::Time), [Action::Look], "found past its certificate's end");
    assert!(session.on(at(4100), Event::NotRenewed).is_empty());
    session.on(at(4140), Event::Time);
    assert_eq!(session.on(at(4140), Event::NotRenewed), [Action::Warn { left: secs(60) }]);
    assert_eq!(session.on(at(4200), Event::Time), [Action::Announce(Cause::Expired)]);
}

#[test]
fn hanging_look_does_not_delay_the_end() {
    let mut session = about_to_end();
    session.next_look = Duration::ZERO;
    assert_eq!(session.on(at(3599), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(3600), Event::Time), [Action::Announce(Cause::Expired)]);
}

#[test]
fn first_look_that_still_waits_at_the_end_does_not_delay_it() {
    let mut session = Session::new(at(0), Some(until(20)), &timing());
    assert_eq!(session.on(at(14), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(17), Event::Time), [Action::Warn { left: secs(3) }]);
    assert!(session.on(at(19), Event::Time).is_empty());
    assert_eq!(session.wake_in(at(19)), Some(secs(1)));
    assert_eq!(session.on(at(20), Event::Time), [Action::Announce(Cause::Expired)]);
    assert!(session.on(at(20), Event::Renewed { valid_before: until(7200) }).is_empty());
}

#[test]
fn certificate_that_comes_after_the_end_has_begun_changes_nothing() {
    let mut session = about_to_end();
    session.on(at(3600), Event::Time);
    assert!(session.on(at(3600), Event::Renewed { valid_before: until(7200) }).is_empty());
    assert_eq!(session.on(at(3601), Event::Time), [Action::Terminate]);
}

#[test]
fn certificate_that_ends_no_later_is_no_renewal() {
    for valid_before in [until(3600), until(100), until(0)] {
        let mut session = hour();
        session.on(at(3300), Event::Time);
        assert_eq!(session.on(at(3300), Event::Renewed { valid_before }), [Action::Warn { left: secs(300) }]);
    }
}

#[test]
fn certificate_that_is_over_already_is_no_renewal() {
    let mut session = Session::new(at(4000), Some(until(3600)), &timing());
    assert_eq!(session.on(at(4000), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(4000), Event::Renewed { valid_before: until(3900) }), [Action::Announce(Cause::Expired)]);
}

#[test]
fn session_that_ran_out_while_nobody_looked_gets_one_look() {
    let mut session = Session::new(at(4000), Some(until(3600)), &timing());
    assert_eq!(session.on(at(4000), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(4001), Event::Renewed { valid_before: until(7200) }), [Action::Prolong]);
    assert!(session.on(at(4002), Event::Time).is_empty());
}

#[test]
fn last_look_that_hangs_counts_as_no() {
    let mut session = Session::new(at(4000), Some(until(3600)), &timing());
    assert_eq!(session.on(at(4000), Event::Time), [Action::Look]);
    assert_eq!(session.wake_in(at(4000)), Some(secs(3)));
    assert!(session.on(at(4002), Event::Time).is_empty());
    assert_eq!(session.on(at(4003), Event::Time), [Action::Announce(Cause::Expired)]);
}

#[test]
fn refused_certificate_ends_at_once_and_asks_nobody() {
    let mut session = hour();
    assert_eq!(
        session.on(at(10), Event::Refused(Refusal::Revoked)),
        [Action::Announce(Cause::Refused(Refusal::Revoked))]
    );
    assert!(session.on(at(11), Event::Refused(Refusal::Revoked)).is_empty(), "once");
    assert!(session.on(at(11), Event::Renewed { valid_before: until(7200) }).is_empty());
}

#[test]
fn kills_the_child_after_grace_and_itself_only_later() {
    let mut session = about_to_end();
    let cause = Cause::Expired;
    assert_eq!(session.on(at(3600), Event::Time), [Action::Announce(cause)]);
    assert!(session.is_ending());
    assert!(session.on(at(3600), Event::Time).is_empty(), "the terminals are being told");
    assert_eq!(session.wake_in(at(3600)), Some(LAST_WORD));
    assert_eq!(session.on(at(3601), Event::Time), [Action::Terminate]);
    assert!(session.on(at(3602), Event::Time).is_empty());
    assert_eq!(session.wake_in(at(3602)), Some(secs(1)));
    assert_eq!(session.on(at(3603), Event::Time), [Action::Kill]);
    assert!(session.on(at(3604), Event::Time).is_empty());
    assert_eq!(session.on(at(3605), Event::Time), [Action::Kill, Action::KillItself]);
    assert_eq!(session.wake_in(at(3605)), Some(secs(60)));
}

#[test]
fn one_that_is_refused_gets_half_a_second_of_grace_at_most() {
    for (grace, wait) in
        [(secs(2), Duration::from_millis(500)), (Duration::from_millis(200), Duration::from_millis(200))]
    {
        let mut session = Session::new(at(0), Some(until(3600)), &Timing { grace, ..timing() });
        session.on(at(10), Event::Refused(Refusal::Revoked));
        assert_eq!(session.on(at(11), Event::Time), [Action::Terminate]);
        assert_eq!(session.wake_in(at(11)), Some(wait));
        assert_eq!(session.on(at(12), Event::Time), [Action::Kill]);
    }
}

#[test]
fn an_end_that_an_earlier_run_had_begun_goes_on_with_what_is_left_of_its_grace_and_asks_nobody() {
    let mut session = Session::new(at(10), Some(until(3600)), &timing());
    let grace = Duration::from_millis(300);
    assert_eq!(session.on(at(10), Event::EndBegun { grace }), [Action::Terminate]);
    assert!(session.is_ending());
    assert!(session.on(at(10), Event::Renewed { valid_before: until(7200) }).is_empty());
    assert_eq!(session.wake_in(at(10)), Some(grace));
    assert_eq!(session.on(at(11), Event::Time), [Action::Kill]);
}

#[test]
fn ends_as_soon_as_the_last_word_is_out() {
    let mut session = about_to_end();
    assert!(session.on(at(3599), Event::LastWordOut).is_empty(), "nothing was said");
    session.on(at(3600), Event::Time);
    assert_eq!(session.on(at(3600), Event::LastWordOut), [Action::Terminate]);
    assert!(session.on(at(3600), Event::LastWordOut).is_empty(), "once");
    assert!(session.on(at(3601), Event::Time).is_empty());
    assert_eq!(session.on(at(3602), Event::Time), [Action::Kill], "grace counts from SIGTERM");
}

#[test]
fn session_without_a_certificate_is_left_alone() {
    let mut session = Session::new(at(0), None, &timing());
    assert_eq!(session.wake_in(at(0)), None);
    assert!(session.on(at(1_000_000), Event::Time).is_empty());
}

#[test]
fn certificate_that_never_expires_is_only_ended_by_a_verdict() {
    let mut session = Session::new(at(0), Some(UnixTime::FOREVER), &timing());
    assert_eq!(session.wake_in(at(0)), None);
    assert!(session.on(at(1_000_000), Event::Time).is_empty());
    assert_eq!(
        session.on(at(1_000_001), Event::Refused(Refusal::Revoked)),
        [Action::Announce(Cause::Refused(Refusal::Revoked))]
    );
}

#[test]
fn clock_set_back_prolongs_nothing() {
    let mut session = about_to_end();
    assert_eq!(session.on(clocks(0, 3600), Event::Time), [Action::Announce(Cause::Expired)]);
}

#[test]
fn clock_set_forward_ends_what_has_run_out_but_asks_first() {
    let mut session = hour();
    assert_eq!(session.on(clocks(4000, 10), Event::Time), [Action::Look]);
    assert_eq!(session.on(clocks(4001, 11), Event::NotRenewed), [Action::Announce(Cause::Expired)]);
}

#[test]
fn short_certificate_is_warned_once_although_all_times_lie_before_it() {
    let mut session = Session::new(at(0), Some(until(20)), &timing());
    assert_eq!(session.wake_in(at(0)), Some(secs(14)));
    assert_eq!(session.on(at(14), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(14), Event::NotRenewed), [Action::Warn { left: secs(6) }]);
    assert!(session.on(at(15), Event::Time).is_empty());
}

#[test]
fn warnings_that_were_missed_are_given_as_one() {
    let mut session = hour();
    assert_eq!(session.on(at(3580), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(3580), Event::NotRenewed), [Action::Warn { left: secs(20) }]);
    session.on(at(3585), Event::Time);
    assert!(session.on(at(3585), Event::NotRenewed).is_empty());
}

#[test]
fn configured_window_opens_when_it_says() {
    let timing = Timing { look_before: Some(secs(600)), ..timing() };
    let mut session = Session::new(at(0), Some(until(3600)), &timing);
    assert_eq!(session.wake_in(at(0)), Some(secs(3000)));
    assert_eq!(session.on(at(3000), Event::Time), [Action::Look]);
    assert!(session.on(at(3000), Event::NotRenewed).is_empty(), "no warning is due yet");
    assert_eq!(session.wake_in(at(3000)), Some(secs(10)));
}

#[test]
fn always_wakes_while_anything_is_to_come() {
    let mut session = hour();
    let mut elapsed = Duration::ZERO;
    for _ in 0..200 {
        let at = |elapsed| Now { wall: secs(START) + elapsed, elapsed };
        let Some(wait) = session.wake_in(at(elapsed)) else { panic!("sleeps for ever at {elapsed:?}") };
        elapsed += wait;
        for action in session.on(at(elapsed), Event::Time) {
            match action {
                Action::Look => drop(session.on(at(elapsed), Event::NotRenewed)),
                Action::Announce(_) => {
                    assert_eq!(elapsed, secs(3600));
                    return;
                }
                Action::Warn { .. }
                | Action::WarnOfLimit { .. }
                | Action::Prolong
                | Action::Overdue
                | Action::Freeze
                | Action::GoOn
                | Action::Watch
                | Action::Terminate
                | Action::Kill
                | Action::KillItself => {}
            }
        }
    }
    panic!("never ended, or spun");
}

/// [`hour`] where the configuration lets sessions go on, at its end.
fn let_go_on() -> Session {
    let timing = Timing { at_end: AtEnd::Warn, ..timing() };
    let mut session = Session::new(at(0), Some(until(3600)), &timing);
    for s in [3300, 3540, 3599] {
        assert_eq!(session.on(at(s), Event::Time), [Action::Look]);
        session.on(at(s), Event::NotRenewed);
    }
    assert_eq!(session.on(at(3600), Event::Time), [Action::Overdue], "told once, and not ended");
    session
}

#[test]
fn where_sessions_may_go_on_the_agent_is_asked_again_and_more_and_more_rarely() {
    let mut session = let_go_on();
    let (mut now, mut waits) = (3600, Vec::new());
    for _ in 0..8 {
        let wait = session.wake_in(at(now)).unwrap().as_secs();
        assert!(session.on(at(now + wait - 1), Event::Time).is_empty());
        now += wait;
        waits.push(wait);
        assert_eq!(session.on(at(now), Event::Time), [Action::Look]);
        assert_eq!(session.wake_in(at(now)), None, "one look at a time");
        assert!(session.on(at(now), Event::NotRenewed).is_empty());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    assert!(!session.is_ending());
}

#[test]
fn a_session_that_goes_on_lives_by_a_newer_certificate_again_and_ends_when_it_is_revoked() {
    let mut session = let_go_on();
    assert_eq!(session.on(at(3602), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(3602), Event::Renewed { valid_before: until(7200) }), [Action::Prolong]);
    assert_eq!(session.wake_in(at(3602)), Some(secs(7200 - 300 - 3602)));
    let mut session = let_go_on();
    assert!(session.on(at(3610), Event::Renewed { valid_before: until(3600) }).is_empty(), "no newer one");
    let cause = Cause::Refused(Refusal::Revoked);
    assert_eq!(session.on(at(3611), Event::Refused(Refusal::Revoked)), [Action::Announce(cause)]);
    assert_eq!(session.on(at(3612), Event::Time), [Action::Terminate]);
}

#[test]
fn one_whose_end_fell_into_a_gap_is_asked_for_before_it_is_let_go_on() {
    let timing = Timing { at_end: AtEnd::Warn, ..timing() };
    let mut session = Session::new(at(0), Some(until(0)), &timing);
    assert_eq!(session.on(at(0), Event::Time), [Action::Look]);
    assert_eq!(session.on(at(1), Event::NotRenewed), [Action::Overdue]);
}

/// [`hour`] where the configuration has sessions frozen, at its end.
fn frozen() -> Session {
    let timing = Timing { at_end: AtEnd::Freeze, ..timing() };
    let mut session = Session::new(at(0), Some(until(3600)), &timing);
    for s in [3300, 3540, 3599] {
        assert_eq!(session.on(at(s), Event::Time), [Action::Look]);
        session.on(at(s), Event::NotRenewed);
    }
    assert_eq!(session.on(at(3600), Event::Time), [Action::Freeze]);
    session
}

#[test]
fn a_frozen_session_is_watched_and_its_agent_asked_every_two_seconds_and_slower_with_time() {
    let mut session = frozen();
    let (mut now, mut looks) = (3600, Vec::new());
    while now < 3600 + 1200 {
        let wait = session.wake_in(at(now)).unwrap().as_secs();
        assert!((1..=2).contains(&wait), "{wait} at {now}: it is watched all the time");
        now += wait;
        let actions = session.on(at(now), Event::Time);
        if actions.contains(&Action::Look) {
            looks.push(now - 3600);
            assert!(session.on(at(now), Event::NotRenewed).is_empty());
        }
    }
    assert_eq!(looks[..4], [2, 4, 6, 8]);
    let gaps: Vec<u64> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted(), "{gaps:?}");
    assert_eq!((gaps[0], *gaps.last().unwrap()), (2, 15), "{gaps:?}");
    assert!(!session.is_ending());
}

#[test]
fn a_look_that_hangs_keeps_nobody_from_watching() {
    let mut session = frozen();
    assert_eq!(session.on(at(3602), Event::Time), [Action::Watch, Action::Look]);
    assert_eq!(session.wake_in(at(3602)), Some(secs(2)));
    assert_eq!(session.on(at(3604), Event::Time), [Action::Watch], "one look at a time");
}

#[test]
fn a_frozen_session_lives_by_a_newer_certificate_and_ends_when_it_is_revoked_or_cannot_be_held() {
    let mut session = frozen();
    session.on(at(3602), Event::Time);
    assert_eq!(session.on(at(3603), Event::Renewed { valid_before: until(7200) }), [Action::Prolong]);
    assert_eq!(session.wake_in(at(3603)), Some(secs(7200 - 300 - 3603)));
    assert!(session.on(at(3604), Event::NotFrozen("late".into())).is_empty(), "it is not frozen any more");
    for (event, cause) in [
        (Event::Refused(Refusal::Revoked), Cause::Refused(Refusal::Revoked)),
        (Event::NotFrozen("why".into()), Cause::NotFrozen("why".into())),
    ] {
        let mut session = frozen();
        assert_eq!(session.on(at(3610), event), [Action::Announce(cause)]);
        assert_eq!(session.on(at(3611), Event::Time), [Action::Terminate]);
    }
}

#[test]
fn one_that_was_frozen_before_stays_so_past_its_end_and_where_sessions_are_frozen_only() {
    let freeze = Timing { at_end: AtEnd::Freeze, ..timing() };
    let mut session = Session::new(at(0), Some(until(0)), &freeze);
    assert!(session.stays_frozen(at(0)) && !session.is_good(at(0)));
    assert_eq!(session.on(at(0), Event::Time), [Action::Watch, Action::Look]);
    let mut renewed = Session::new(at(0), Some(until(60)), &freeze);
    assert!(!renewed.stays_frozen(at(0)) && renewed.is_good(at(0)));
    let mut ends = Session::new(at(0), Some(until(0)), &timing());
    assert!(!ends.stays_frozen(at(0)));
    assert_eq!(ends.on(at(0), Event::Time), [Action::Look], "and then it ends");
}

/// [`hour`] with that at its end, for which the clock is two hours ahead at 1000 s.
fn clock_ahead(at_end: AtEnd) -> Session {
    let mut session = Session::new(at(0), Some(until(3600)), &Timing { at_end, ..timing() });
    assert_eq!(session.on(clocks(1000 + 7200, 1000), Event::Time), [Action::Look]);
    session
}

#[test]
fn one_that_stands_still_for_a_clock_that_was_ahead_goes_on_as_soon_as_that_is_right() {
    for (at_end, reached) in [(AtEnd::Freeze, Action::Freeze), (AtEnd::Warn, Action::Overdue)] {
        let mut session = clock_ahead(at_end);
        assert_eq!(session.on(clocks(1001 + 7200, 1001), Event::NotRenewed), [reached]);
        assert_ne!(session.wake_in(clocks(1002 + 7200, 1002)), Some(Duration::ZERO), "it is still ahead");
        assert_eq!(session.wake_in(at(1004)), Some(Duration::ZERO));
        assert_eq!(session.on(at(1004), Event::Time), [Action::GoOn]);
        assert_eq!(session.wake_in(at(1004)), Some(secs(3300 - 1004)), "its warnings and its end are as they were");
        assert_eq!(session.on(at(3300), Event::Time), [Action::Look]);
        assert_eq!(session.on(at(3301), Event::NotRenewed), [Action::Warn { left: secs(299) }]);
    }
}

#[test]
fn one_whose_look_is_under_way_goes_on_when_the_clock_is_right_again() {
    let mut session = clock_ahead(AtEnd::Freeze);
    session.on(clocks(1003 + 7200, 1003), Event::Time);
    assert_eq!(session.on(at(1004), Event::Time), [Action::GoOn]);
    assert!(session.on(at(1005), Event::NotRenewed).is_empty());
    assert_eq!(session.wake_in(at(1005)), Some(secs(3300 - 1005)));
    for event in [Event::Time, Event::NotRenewed] {
        let mut session = clock_ahead(AtEnd::End);
        assert!(session.on(at(1001), event).is_empty(), "its last look is not its last");
        session.on(at(1001), Event::Time);
        assert_eq!(session.wake_in(at(1001)).map(|wait| wait >= secs(2000)), Some(true));
    }
}

#[test]
fn clock_that_is_set_back_after_the_end_thaws_nothing() {
    for mut session in [frozen(), let_go_on()] {
        for wall in [3599, 1000, 0] {
            assert_ne!(session.wake_in(clocks(wall, 3601)), Some(Duration::ZERO));
            assert!(session.on(clocks(wall, 3601), Event::Time).is_empty());
        }
    }
}

#[test]
fn what_is_refused_while_the_clock_is_ahead_ends_and_does_not_go_on() {
    let mut session = clock_ahead(AtEnd::Freeze);
    session.on(clocks(1001 + 7200, 1001), Event::NotRenewed);
    let cause = Cause::Refused(Refusal::Revoked);
    assert_eq!(session.on(clocks(1002 + 7200, 1002), Event::Refused(Refusal::Revoked)), [Action::Announce(cause)]);
    assert_eq!(session.on(at(1004), Event::Time), [Action::Terminate]);
}

/// A session whose certificate ends an hour from now, and which may last 1000 s.
fn limited(timing: &Timing) -> Session {
    Session::new(at(0), Some(until(3600)), timing).limited(at(0), Duration::from_secs(1000))
}

#[test]
fn a_limited_session_is_warned_and_ends_whatever_its_agent_has() {
    for at_end in [AtEnd::End, AtEnd::Warn, AtEnd::Freeze] {
        let timing = Timing { at_end, ..timing() };
        let mut session = limited(&timing);
        let mut warned = Vec::new();
        for second in 1..1000 {
            for action in session.on(at(second), Event::Time) {
                let Action::WarnOfLimit { left } = action else { panic!("{action:?} at {second}") };
                warned.push(left.as_secs());
            }
        }
        assert_eq!(warned, timing.warn_before.iter().map(Duration::as_secs).collect::<Vec<_>>());
        // A newer certificate moves the end of the certificate, and nothing else.
        session.on(at(999), Event::Renewed { valid_before: until(90_000) });
        assert_eq!(session.on(at(1000), Event::Time), [Action::Announce(Cause::TimeLimit)], "{at_end:?}");
        assert!(session.is_ending());
        assert_eq!(session.on(at(1001), Event::Renewed { valid_before: until(99_000) }), []);
    }
}

#[test]
fn a_limit_ends_what_stands_still_or_is_let_go_on() {
    for at_end in [AtEnd::Warn, AtEnd::Freeze] {
        let timing = Timing { at_end, ..timing() };
        let mut session = Session::new(at(0), Some(until(100)), &timing).limited(at(0), Duration::from_secs(1000));
        session.on(at(100), Event::Time);
        session.on(at(101), Event::NotRenewed);
        assert!(!session.is_ending());
        assert!(session.wake_in(at(999)).unwrap() <= Duration::from_secs(1));
        assert_eq!(session.on(at(1000), Event::Time), [Action::Announce(Cause::TimeLimit)], "{at_end:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_lengthen_a_limit() {
    let mut session = limited(&timing());
    let back = Now { wall: at(0).wall, elapsed: at(1000).elapsed };
    assert_eq!(session.on(back, Event::Time), [Action::Announce(Cause::TimeLimit)]);
}

#[test]
fn a_session_without_a_certificate_wakes_for_its_limit_alone() {
    let mut session = Session::new(at(0), None, &timing()).limited(at(0), Duration::from_secs(1000));
    let first = timing().warn_before[0];
    assert_eq!(session.wake_in(at(0)), Some(Duration::from_secs(1000) - first));
    assert_eq!(session.on(at(1000), Event::Time), [Action::Announce(Cause::TimeLimit)]);
}
