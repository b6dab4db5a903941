//! Who may begin, how much, and whose turn it is: fair admission and limits, counted in tokens.

pub mod limit;
