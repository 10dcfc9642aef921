//! What modules remember of a request, each under a type of its own.

use std::any::Any;
use std::rc::Rc;

use crate::pool::Buf;

/// A request body that was read whole: what `$request_body` shows, and what a second location can pass on after an
/// internal redirect.
#[derive(Clone, Debug, Default)]
pub struct HeldBody(pub Rc<Buf>);

/// A request's typed slots; empty for most requests.
#[derive(Default)]
pub struct Slots {
    values: Vec<Box<dyn Any>>,
}

impl Slots {
    /// The value of type `T`, if the request has one.
    pub fn find<T: 'static>(&self) -> Option<&T> {
        self.values.iter().find_map(|value| value.downcast_ref())
    }

    /// The value of type `T`, if the request has one.
    pub fn find_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.values.iter_mut().find_map(|value| value.downcast_mut())
    }

    /// The value of type `T`, made by `Default` on first use.
    pub fn of<T: Default + 'static>(&mut self) -> &mut T {
        let at = match self.values.iter().position(|value| value.is::<T>()) {
            Some(at) => at,
            None => {
                self.values.push(Box::<T>::default());
                self.values.len() - 1
            }
        };
        self.values[at].downcast_mut().expect("the slot was found by its type")
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.values.clear();
    }
}
