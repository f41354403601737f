//! Length limits of names, counted in UTF-16 units as the original does (8.1.0 spec, B.1).

/// Units that a name may have; longer ones are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameLimits {
    pub service: usize,
    pub instance: usize,
    pub endpoint: usize,
}

impl Default for NameLimits {
    fn default() -> NameLimits {
        NameLimits {
            service: 70,
            instance: 70,
            endpoint: 150,
        }
    }
}

/// The name up to `limit` UTF-16 units. A character that would be cut in half is left out.
pub fn cut(name: &str, limit: usize) -> &str {
    if name.len() <= limit {
        return name;
    }
    let mut units = 0;
    for (at, c) in name.char_indices() {
        units += c.len_utf16();
        if units > limit {
            return &name[..at];
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn names_are_cut_at_utf16_units() {
        for (name, limit, want) in [
            ("order", 5, "order"),
            ("order-service", 5, "order"),
            ("批处理-report", 4, "批处理-"),
            ("ab😀cd", 3, "ab"),
            ("ab😀cd", 4, "ab😀"),
        ] {
            assert_eq!(cut(name, limit), want, "{name} {limit}");
        }
    }
}
