//! oap
