package bare // want package bare has no doc comment
