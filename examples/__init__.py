"""Small programs that show what inloop is for; each is run by the tests."""
