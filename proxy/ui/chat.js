// The page of the same name.

import "./shell.js"
