//! The pages that people begin with, taken at their word.

mod pages;
mod rights;
mod start;
