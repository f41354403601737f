//! Searching names and messages by analysed words, as the original's Elasticsearch does: `match` and `match_phrase`.

use std::collections::HashMap;

use crate::storage::words;

/// Remembered answers; texts repeat far more than they differ.
const MEMO: usize = 4096;

/// A condition on a text.
#[derive(Debug)]
pub(super) struct TextFilter {
    words: Vec<(usize, String)>,
    is_phrase: bool,
    memo: HashMap<Box<str>, bool>,
}

impl TextFilter {
    /// Any word of the keyword is in the text. `None`, no filter, without keyword.
    pub(super) fn any_word(keyword: Option<&str>) -> Option<TextFilter> {
        TextFilter::build(keyword, false)
    }

    /// The words of the keyword are in the text in the same order and at the same distances.
    pub(super) fn phrase(keyword: Option<&str>) -> Option<TextFilter> {
        TextFilter::build(keyword, true)
    }

    fn build(keyword: Option<&str>, is_phrase: bool) -> Option<TextFilter> {
        let keyword = keyword.filter(|k| !k.is_empty())?;
        Some(TextFilter {
            words: words(keyword),
            is_phrase,
            memo: HashMap::new(),
        })
    }

    /// Whether a text meets the condition; a keyword without words is met by none.
    pub(super) fn matches(&mut self, text: &str) -> bool {
        if let Some(known) = self.memo.get(text) {
            return *known;
        }
        let answer = self.decide(&words(text));
        if self.memo.len() >= MEMO {
            self.memo.clear();
        }
        self.memo.insert(text.into(), answer);
        answer
    }

    fn decide(&self, text: &[(usize, String)]) -> bool {
        let Some((first_at, first)) = self.words.first() else {
            return false;
        };
        let has = |at: usize, word: &str| {
            text.binary_search_by_key(&at, |(at, _)| *at)
                .ok()
                .and_then(|i| text.get(i))
                .is_some_and(|(_, w)| w == word)
        };
        if self.is_phrase {
            text.iter().filter(|(_, w)| w == first).any(|(start, _)| {
                self.words
                    .iter()
                    .all(|(at, w)| has(start + at - first_at, w))
            })
        } else {
            self.words
                .iter()
                .any(|(_, w)| text.iter().any(|(_, t)| t == w))
        }
    }
}

/// Whether a text passes an optional filter; a missing text passes only if there is none.
pub(super) fn passes(filter: &mut Option<TextFilter>, text: Option<&str>) -> bool {
    match (filter, text) {
        (None, _) => true,
        (Some(filter), Some(text)) => filter.matches(text),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_word_and_phrase() {
        for (keyword, text, any, phrase) in [
            ("ORDER", "order-service", true, true),
            ("ord", "order-service", false, false),
            ("service order", "order-service", true, false),
            ("order/service", "order-service", true, true),
            ("the", "the-service", false, false),
            ("-", "order-service", false, false),
            ("users/42", "/api/v1/users/42", true, true),
            ("api users", "/api/v1/users/42", true, false),
            // A stop word leaves a gap that anything may fill.
            ("api the users", "/api/v1/users/42", true, true),
            ("users the", "users", true, true),
            ("b c", "b b c", true, true),
            ("订单", "订单-service", true, true),
        ] {
            let filter = |is_phrase| TextFilter::build(Some(keyword), is_phrase).unwrap();
            assert_eq!(filter(false).matches(text), any, "any {keyword:?} {text:?}");
            let mut filter = filter(true);
            assert_eq!(filter.matches(text), phrase, "phrase {keyword:?} {text:?}");
            assert_eq!(
                filter.matches(text),
                phrase,
                "remembered {keyword:?} {text:?}"
            );
        }
        assert!(TextFilter::phrase(Some("")).is_none());
        assert!(TextFilter::any_word(None).is_none());
    }
}
