"""What is kept from call to call, and when it is out of date."""
