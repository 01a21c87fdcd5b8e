"""Audio: a take's sound is checked, levelled, encoded and tagged. No torch."""
