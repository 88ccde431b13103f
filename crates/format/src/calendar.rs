//! Dates of the proleptic Gregorian calendar in UTC, as the format writes times in text: no zones, no leap seconds.

use crate::attr::Time;

const DAY_SECS: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 1 March of year 0 to 1 January 1970: a year that begins in March has its leap day at its end.
const EPOCH_DAYS: i64 = 719_468;

/// A second in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u32,
    /// 1 to 31.
    pub(crate) day: u32,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
}

impl Date {
    /// The date `secs` seconds after 1970 began.
    pub(crate) fn of(secs: i64) -> Date {
        let (days, rest) = (secs.div_euclid(DAY_SECS) + EPOCH_DAYS, secs.rem_euclid(DAY_SECS) as u32);
        let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        // Leap days before this one: one each 4 years but not each 100; the era's last day is its own leap day.
        let leaps = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / (ERA_DAYS - 1);
        let year_of_era = (day_of_era - leaps) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // From March on, five months always have 153 days.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        Date {
            year: era * 400 + year_of_era + next_year,
            month: month as u32,
            day: day as u32,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// Seconds since 1970 began; `None` for a date that the calendar does not have.
    pub(crate) fn secs(self) -> Option<i64> {
        let year = if self.month > 2 { self.year } else { self.year - 1 };
        let month = (i64::from(self.month) + 9) % 12;
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = year.div_euclid(400) * ERA_DAYS + day_of_era - EPOCH_DAYS;
        let time = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        let secs = days.checked_mul(DAY_SECS)?.checked_add(time)?;
        (Date::of(secs) == self).then_some(secs)
    }
}

/// `time` by RFC 3339 with as many fractional digits as it needs, in UTC.
pub fn rfc3339(time: Time) -> String {
    let date = Date::of(time.secs);
    let fraction = format!(".{:09}", time.nanos);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let Date { year, month, day, hour, minute, second } = date;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_seconds_agree() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_795_353_421, "2026-11-22T13:17:01Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(Time { secs, nanos: 0 }), text);
            assert_eq!(Date::of(secs).secs(), Some(secs));
        }
        assert_eq!(rfc3339(Time { secs: 0, nanos: 120_000_000 }), "1970-01-01T00:00:00.12Z");
    }

    #[test]
    fn every_day_of_an_era_comes_back() {
        let mut before = Date::of(-DAY_SECS);
        for days in 0..ERA_DAYS {
            let date = Date::of(days * DAY_SECS);
            assert_eq!(date.secs(), Some(days * DAY_SECS));
            let follows = (date.year, date.month, date.day) > (before.year, before.month, before.day);
            assert!(follows, "{date:?} after {before:?}");
            before = date;
        }
        assert_eq!((before.year, before.month, before.day), (2369, 12, 31));
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        let date = Date { year: 2026, month: 2, day: 28, hour: 0, minute: 0, second: 0 };
        assert!(date.secs().is_some());
        assert_eq!(Date { day: 29, ..date }.secs(), None);
        assert_eq!(Date { month: 13, ..date }.secs(), None);
        assert_eq!(Date { hour: 24, ..date }.secs(), None);
    }
}
