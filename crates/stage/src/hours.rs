//! Hours of the day in which staged blocks are stored.

/// From one full hour to another of this host's time, past midnight if the first is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    start: u8,
    end: u8,
}

impl Hours {
    /// All of them.
    pub const ALL: Hours = Hours { start: 0, end: 24 };

    /// From `start` to `end`. `None` if one is no hour (0 to 24), or no time lies between.
    pub fn between(start: u8, end: u8) -> Option<Hours> {
        (start <= 24 && end <= 24 && start != end).then_some(Hours { start, end })
    }

    /// Whether the hour that begins at `hour` lies between.
    pub(crate) fn hold(self, hour: u8) -> bool {
        let Hours { start, end } = self;
        if start < end { (start..end).contains(&hour) } else { hour >= start || hour < end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_begin_and_end_and_may_pass_midnight() {
        let hold =
            |start, end| (0..24).filter(|hour| Hours::between(start, end).unwrap().hold(*hour)).collect::<Vec<_>>();
        assert_eq!(hold(1, 4), [1, 2, 3]);
        assert_eq!(hold(22, 2), [0, 1, 22, 23]);
        assert_eq!(hold(23, 24), [23]);
        assert_eq!(hold(24, 1), [0]);
        assert_eq!(hold(0, 24).len(), 24);
        assert!((0..24).all(|hour| Hours::ALL.hold(hour)));
        assert_eq!((Hours::between(3, 3), Hours::between(25, 1), Hours::between(0, 25)), (None, None, None));
    }
}
