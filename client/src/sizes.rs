//! Sizes as JuiceFS's own commands print them.

const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// With two places and in bytes: `195.31 KiB (200000 Bytes)`.
pub(crate) fn exact(bytes: u64) -> String {
    match scaled(bytes) {
        (_, "") => format!("{bytes} Bytes"),
        (value, unit) => format!("{value:.2} {unit}B ({bytes} Bytes)"),
    }
}

/// With two digits or three: `9.0 MiB`, `196 KiB`.
pub(crate) fn short(bytes: u64) -> String {
    match scaled(bytes) {
        (_, "") => format!("{bytes} B"),
        (value, unit) if (value * 10.0).round() < 100.0 => format!("{value:.1} {unit}B"),
        (value, unit) => format!("{value:.0} {unit}B"),
    }
}

fn scaled(bytes: u64) -> (f64, &'static str) {
    let (mut value, mut power) = (bytes as f64, 0);
    while value >= 1024.0 && power + 1 < UNITS.len() {
        value /= 1024.0;
        power += 1;
    }
    (value, UNITS[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_look_like_those_of_real_clients() {
        assert_eq!(exact(200_000), "195.31 KiB (200000 Bytes)");
        assert_eq!(exact(9_003_008), "8.59 MiB (9003008 Bytes)");
        assert_eq!(exact(3), "3 Bytes");
        for (bytes, text) in
            [(9_428_992, "9.0 MiB"), (200_704, "196 KiB"), (4096, "4.0 KiB"), (0, "0 B"), (1023, "1023 B")]
        {
            assert_eq!(short(bytes), text);
        }
        assert_eq!(short(u64::MAX), "16 EiB");
    }
}
