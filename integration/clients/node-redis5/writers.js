'use strict';

// The writers' job with node-redis 5.

require('../node/node-redis')(require('redis'));
