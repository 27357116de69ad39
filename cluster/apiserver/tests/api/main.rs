//! The API server as its clients see it.

mod common;
mod http;
mod lagging;
mod member;
mod objects;
mod reviews;
mod services;
mod watches;
mod yaml;
