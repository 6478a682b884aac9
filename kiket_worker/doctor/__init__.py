"""Doctor: looks at an installation or at one organisation, and says what is wrong and what mends it."""
