"""What goes over the wire: requests (pydantic), answers (msgspec), errors."""
