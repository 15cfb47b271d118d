//! Looks of the page, light and dark, and the little script that lights up one method everywhere.

/// Colours of methods before they come again, dashed.
pub(super) const HUES: usize = 8;

/// Colours of sites. None is red: red is failure.
pub(super) const SITES: usize = 6;

pub(super) const CSS: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");
