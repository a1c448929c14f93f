"""What hands push and press: one module for each device, with its library imported where it is opened."""
