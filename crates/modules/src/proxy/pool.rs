//! This thread's pool of idle connections, made when the first one is kept.

use std::cell::RefCell;

use upstream::Pool;

thread_local! {
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

/// The pool; its watcher runs in the thread's local tasks.
pub(crate) fn of_this_thread() -> Pool {
    POOL.with_borrow_mut(|pool| {
        pool.get_or_insert_with(|| {
            let pool = Pool::new();
            reactor::spawn(pool.watch());
            pool
        })
        .clone()
    })
}
