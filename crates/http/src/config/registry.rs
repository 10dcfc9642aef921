//! Things modules register by name and find again: upstream groups, log formats, zones. One value per type.

use std::any::{Any, TypeId};
use std::collections::HashMap;

/// A map from type to its one value. Modules that must meet agree on a type in `http` or `upstream`.
#[derive(Default)]
pub struct Registry {
    values: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl Registry {
    /// The value of type `T`, made by `Default` on first use.
    pub fn of<T: Default + Send + Sync + 'static>(&mut self) -> &mut T {
        self.values
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::<T>::default())
            .downcast_mut()
            .expect("values are kept under their own type")
    }

    /// The value of type `T`, if somebody made one.
    pub fn find<T: 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref())
    }
}
