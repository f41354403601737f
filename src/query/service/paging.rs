//! Which part of a longer list a client wants.

use serde::Deserialize;

use crate::query::QueryError;

/// A page; pages count from 1, and 0 or nothing is the first one.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    pub page_num: Option<i64>,
    pub page_size: i64,
}

impl Pagination {
    /// Rows to skip and rows to take; `window` is how far into a list questions may reach.
    pub fn offset_and_limit(&self, window: i64) -> Result<(i64, i64), QueryError> {
        let page = match self.page_num {
            None | Some(0) => 1,
            Some(page) => page,
        };
        if page < 0 || self.page_size < 0 {
            return Err(QueryError::argument("paging", "must not be negative"));
        }
        let offset = (page - 1).saturating_mul(self.page_size);
        if offset.saturating_add(self.page_size) > window {
            let reason = format!("reaches beyond the first {window} entries");
            return Err(QueryError::argument("paging", reason));
        }
        Ok((offset, self.page_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_count_from_one_inside_the_window() {
        let page = |page_num, page_size| {
            let page = Pagination {
                page_num,
                page_size,
            };
            page.offset_and_limit(10_000).ok()
        };
        assert_eq!(page(None, 15), Some((0, 15)));
        assert_eq!(page(Some(0), 15), Some((0, 15)));
        assert_eq!(page(Some(3), 7), Some((14, 7)));
        assert_eq!(page(Some(500), 20), Some((9980, 20)));
        for (page_num, page_size) in [(1001, 10), (-1, 5), (1, -1), (i64::MAX, i64::MAX)] {
            assert_eq!(page(Some(page_num), page_size), None, "{page_num}");
        }
    }
}
