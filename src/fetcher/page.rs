//! Fetches one page within a bound of size.

use std::error::Error as _;

use bytes::{Bytes, BytesMut};
use reqwest::header::ACCEPT;
use reqwest::{Client, StatusCode};

/// Bytes of one page. The largest exporters there are serve a few.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// The format that is understood.
const FORMAT: &str = "text/plain;version=0.0.4";

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("answered with status {0}")]
    Status(StatusCode),
    #[error("the page exceeds {} MiB", MAX_PAGE_BYTES >> 20)]
    TooLarge,
    #[error("{0}{reasons}", reasons = reasons(.0))]
    Http(#[from] reqwest::Error),
}

impl PageError {
    /// Value of the `reason` label.
    pub fn reason(&self) -> &'static str {
        match self {
            PageError::Status(_) => "status",
            PageError::TooLarge => "too_large",
            PageError::Http(error) if error.is_timeout() => "timeout",
            PageError::Http(error) if error.is_connect() => "connect",
            PageError::Http(_) => "broken",
        }
    }
}

/// What the error itself leaves out.
fn reasons(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(reason) = source {
        text.push_str(": ");
        text.push_str(&reason.to_string());
        source = reason.source();
    }
    text
}

/// The page at a URL, within the time that the client allows.
pub async fn fetch(client: &Client, url: &str) -> Result<Bytes, PageError> {
    let mut response = client.get(url).header(ACCEPT, FORMAT).send().await?;
    if !response.status().is_success() {
        return Err(PageError::Status(response.status()));
    }
    let mut page = BytesMut::new();
    while let Some(part) = response.chunk().await? {
        if page.len() + part.len() > MAX_PAGE_BYTES {
            return Err(PageError::TooLarge);
        }
        page.extend_from_slice(&part);
    }
    Ok(page.freeze())
}
