package command

// Parts that tests outside the package try directly.
var (
	ParseInt    = parseInt
	ParseFloat  = parseFloat
	FloatText   = floatText
	ParseCursor = parseCursor
)
