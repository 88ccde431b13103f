//! The store against raw io_uring on the same slab file in the same run. Not a test of anything: it prints.
