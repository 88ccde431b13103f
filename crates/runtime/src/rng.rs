//! Randomness for ids, jitter and choices. Not for keys: key material comes from the crypto library that uses it.

use std::time::Duration;

use rand::RngCore;

/// Fills `bytes` from a generator seeded by the operating system, one a thread; in a simulation from the simulation's.
pub fn fill(bytes: &mut [u8]) {
    #[cfg(feature = "testing")]
    if let Some(()) = crate::simulation::draw(|rng| rng.fill_bytes(bytes)) {
        return;
    }
    rand::rng().fill_bytes(bytes);
}

/// A number uniform over all of `u64`.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// 16 random bytes, the size of a `NodeId`, an `OriginId` and a UUID.
pub fn id16() -> [u8; 16] {
    let mut id = [0; 16];
    fill(&mut id);
    id
}

/// `base` moved by up to `fraction` of itself either way, so that a fleet started together does not act together.
///
/// `fraction` is clamped to `0.0..=1.0`; the result lies in `base * (1 - fraction) ..= base * (1 + fraction)`.
pub fn jitter(base: Duration, fraction: f64) -> Duration {
    let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
    // 53 bits: what a f64 holds exactly, so `unit` is uniform in 0..1.
    let unit = (random_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let factor = 1.0 + fraction * (2.0 * unit - 1.0);
    Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_fill_reaches_every_byte() {
        assert_ne!(id16(), id16());
        let mut seen = [0u8; 64];
        for _ in 0..64 {
            let mut bytes = [0u8; 64];
            fill(&mut bytes);
            seen.iter_mut().zip(bytes).for_each(|(seen, byte)| *seen |= byte);
        }
        assert!(seen.iter().all(|byte| *byte != 0));
    }

    #[test]
    fn jitter_stays_within_its_fraction_and_moves() {
        let base = Duration::from_secs(10);
        let values: Vec<Duration> = (0..1000).map(|_| jitter(base, 0.2)).collect();
        assert!(values.iter().all(|v| (8.0..=12.0).contains(&v.as_secs_f64())));
        assert!(values.iter().any(|v| *v < base) && values.iter().any(|v| *v > base));
        assert_eq!(jitter(base, 0.0), base);
        assert_eq!(jitter(base, f64::NAN), base);
        assert_eq!(jitter(Duration::MAX, 1.0).min(Duration::ZERO), Duration::ZERO);
    }
}
