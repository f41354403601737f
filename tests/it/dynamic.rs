//! Settings that change while the server runs, from the configuration centre to what the server does.

mod centers;
mod doubles;
mod odd_answers;
mod refusals;
mod running;
